"""Every mistake is found at its place, with what would mend it, and all of them at once.

In the texts, § stands before what a problem should point at.
"""

import re
from pathlib import Path

import pytest

from hub.config import load, loads
from hub.errors import ConfigError
from tests.config.samples import ENV, MANIFESTS, problems

CRM = """\
version: 1
systems:
  crm:
    connector: postgresql
    url: ${CRM_URL}
    objects:
      companies: {entity: company, table: companies, fields: {name: name}}
      contacts:
        entity: contact
        table: contacts
        fields: {email: email}
"""
HUBSPOT = CRM + "  hubspot:\n    connector: hubspot\n    token: ${HUBSPOT_TOKEN}\n    objects: [contacts]\n"


def crm(replace: str, by: str) -> str:
    assert replace in CRM
    return CRM.replace(replace, by)


def contact(field: str) -> str:
    """The CRM's contacts with one more field mapping."""
    return crm("{email: email}", "{email: email, " + field + "}")


def plus(key: str) -> str:
    """The CRM's contacts with one more key."""
    return crm("table: contacts", f"table: contacts\n        {key}")


def rule(text: str) -> str:
    """A rule of contact, with two systems configured."""
    return HUBSPOT + "entities:\n  contact:\n    fields: {" + text + "}\n"


CASES = [
    # the file itself
    ("§", "is empty", "version: 1"),
    ("§- a\n", "must be a mapping", "version: 1"),
    ("version: 1\nsystems:\n§\tcrm: x\n", "'\\t'", "replace the tab"),
    ("version: 1\nsystems: {crm: {url: $§{X}}}\n", "expected", "needs quotes"),
    (CRM + "§version: 1\n", "version is given twice", "first on line 1"),
    (crm("    url: ${CRM_URL}\n", "    url: ${CRM_URL}\n    §url: ${CRM_URL}\n"), "url is given twice", "line 5"),
    (crm("version: 1", "version: §2"), "version '2'", "version: 1"),
    (crm("version: 1\n", "") .replace("systems", "§systems"), "version is missing", "version of this format"),
    (crm("version: 1\n", "version: 1\n§lgo: embedded\n"), "unknown key 'lgo'", "did you mean log?"),
    (crm("version: 1\n", "version: 1\nlog: §embeded\n"), "log: 'embeded' is not known", "did you mean embedded?"),
    (crm("version: 1\n", "version: 1\nstate: §kafka://localhost:9092\n"), "state: 'kafka", "one of: embedded"),
    (crm("version: 1\n", "version: 1\nlog: §postgresql://me:pw@localhost/x\n"), "must not hold a password", "${HUB_LOG_URL}"),
    (crm("version: 1\n", "version: 1\nstate: §${STATE_URL}\n"), "STATE_URL is not set", "export it"),
    (crm("version: 1\n", "version: 1\nphone_region: §UL\n"), "'UL' is not a region", "ISO 3166"),
    (crm("version: 1\n", "version: 1\nphone_region: §44\n"), "phone_region: must be text", 'quote it: "44"'),
    # systems
    (crm("connector: postgresql", "connector: §postgres"), "the connector 'postgres' is not known", "did you mean postgresql?"),
    (crm("  crm:", "  §crm:").replace("connector:", "conector:"), "connector is missing", "is conector meant"),
    (crm("  crm:", "  §Our CRM:"), "'Our CRM' is not a name", "our_crm?"),
    (crm("  crm:", "  §hub:"), "hub is the hub's own name", "another"),
    (crm("url: ${CRM_URL}", "url: ${CRM_URL}\n    §captur: outbox"), "unknown key 'captur'", "did you mean capture?"),
    (crm("    url: ${CRM_URL}\n", "").replace("  crm:", "  §crm:"), "url is missing", "url: ${CRM_URL}"),
    (crm("${CRM_URL}", "§postgresql://me:pw@db/crm"), "url is a secret", "write url: ${CRM_URL}"),
    (crm("${CRM_URL}", "§postgresql://db/crm"), "url is a secret", "file:"),
    (crm("${CRM_URL}", "§postgresql://me:${PW}pw@db/crm"), "url is a secret", "${CRM_URL}"),
    (crm("${CRM_URL}", "§postgresql://localhost/crm?password=pw"), "url is a secret", "${CRM_URL}"),
    (HUBSPOT.replace("${HUBSPOT_TOKEN}", "§pat-na1-123"), "token is a secret", "${HUBSPOT_TOKEN}"),
    (crm("url: ${CRM_URL}", "url: ${CRM_URL}\n    batch: §many"), "batch must be a number", "default: 1000"),
    (HUBSPOT.replace("    objects: [c", "    webhooks: §1\n    objects: [c"), "webhooks must be true or false", "False"),
    # objects
    (HUBSPOT.replace("[contacts]", "[§contact]"), "hubspot has no object contact", "did you mean contacts?"),
    (HUBSPOT.replace("[contacts]", "§contacts"), "must be a list of object names", ""),
    (crm("entity: contact", "entity: §contcat"), "the entity 'contcat' is not known", "did you mean contact?"),
    (crm("      contacts:", "      §contacts:").replace("        entity: contact\n", ""), "has no entity", "one of contact"),
    (plus("§feilds: {}"), "unknown key 'feilds'", "did you mean fields?"),
    (plus("create: §yes"), "create: must be true or false", "true or false"),
    (plus("create: §true\n        direction: in"), "only read", "create: false"),
    (plus("on_delete: §destroy"), "'destroy' is not known", "one of: delete, ignore"),
    (plus("requires: [email, §fone]"), "fone is not a field of contact", "phone?"),
    (plus("when: §emial == 'x'"), "emial is not a field", "did you mean email?"),
    (plus("when: §email = 'x'"), "not an expression", "compare with =="),
    (plus("when: §lowr(email) == 'x'"), "the function lowr is not known", "lower?"),
    (plus("when: §'[x for x in email]'"), "ListComp is not admitted", ""),
    (plus("constants: {§emails: x}"), "emails is not a field", "email?"),
    (plus("constants: {consent: §maybe}"), "'maybe' is not consent", ""),
    (plus("constants: {§email: a@example.com}"), "a constant and a field", "keep one"),
    # fields
    (contact("§emial: mail"), "emial is not a field of contact", "did you mean email?"),
    (contact("§fax: fax"), "fax is not a field of contact", "entities.contact.fields.fax: {type: text}"),
    (contact("phone: §7"), "phone: must be a mapping", ""),
    (contact("phone: {native: §7}"), "native: must be a list", ""),
    (contact("phone: §[]"), "native: must not be empty", ""),
    (contact("phone: §[a, b]"), "several native fields need a codec", "codec: one of consent"),
    (contact("phone: {native: a, codec: §cent}"), "the codec 'cent' is not known", "did you mean cents?"),
    (contact("phone: {native: a, codec: §{cents: x, flag: y}}"), "a codec is a name", ""),
    (contact("phone: {native: a, codec: §flag}"), "flag: flag takes what stands for true", ""),
    (contact("phone: {native: a, codec: §{zone: Mars/Base}}"), "is not a time zone", ""),
    (contact("phone: {native: [a, b], codec: §epoch_ms}"), "epoch_ms: needs one native field", ""),
    (contact("first_name: {native: a, codec: {split_name: first}, direction: §both}"), "can only read a", "direction: in"),
    (contact("phone: {native: a, direction: §inn}"), "'inn' is not known", "did you mean in?"),
    (contact("phone: {native: a, §objekt: b}"), "unknown key 'objekt'", "did you mean object?"),
    (contact("phone: {native: a, §object: companies}"), "phone is phone, not a reference", "leave object out"),
    (contact("company: §company_id"), "company refers to a company: it needs the object", "object: companies"),
    (contact("company: {native: a, object: §company}"), "crm has no object 'company'", "object: companies"),
    (contact("company: {native: a, object: §contacts}"), "contacts holds contact", "object: companies"),
    (contact("§phone: null"), "not a usual field", "email"),
    (contact("consent: {native: a, options: {x: §perhaps}}"), "'perhaps' is not consent", ""),
    (contact("phone: {native: a, codec: epoch_s, §options: {x: +12025550123}}"), "exclude each other", "keep one"),
    (contact("x: {native: x, identifies: §crm.contcts}"), "'crm.contcts' is not a configured object", "crm.contacts?"),
    (contact("§job_title: email"), "email and job_title both write email", "direction: in"),
    # entities
    (HUBSPOT + "entities:\n  contact: {match: [§mail]}\n", "mail is not a field of contact", "email?"),
    (HUBSPOT + "entities:\n  contact: {match: [§tags]}\n", "tags is tags; only text", "identifies"),
    (HUBSPOT + "entities:\n  contact: {merge: §ask}\n", "merge: 'ask' is not known", "one of: auto, review"),
    (HUBSPOT + "entities:\n  contact: {delete: {§hubspt: detach}}\n", "'hubspt' is not configured", "hubspot?"),
    (HUBSPOT + "entities:\n  contact: {delete: {hubspot: §remove}}\n", "'remove' is not known", "propagate"),
    (rule("email: {truth: [crm, §hubsport]}"), "the system 'hubsport' is not configured", "did you mean hubspot?"),
    (rule("email: {truth: [crm, §crm]}"), "crm is named twice", ""),
    (rule("email: {truth: §[]}"), "truth names no system", "[crm, hubspot]"),
    (rule("email: {truth: §crm}"), "truth: must be a list", "[crm]"),
    (rule("phone: §newest"), "'newest' is not known", "latest"),
    (rule("phone: {rule: latest, truth: §[crm]}"), "two rules", "keep one"),
    (rule("phone: §union"), "union is for tags, phone is phone", "truth, latest"),
    (rule("phone: §strictest"), "strictest is for consent", "latest"),
    (rule("consent: §latest"), "consent must be strictest", "opt_in_from"),
    (rule("consent: {truth: §[crm]}"), "consent must be strictest", "strictest"),
    (rule("consent: {rule: strictest, opt_in_from: [§hub]}"), "the system 'hub' is not configured", "hubspot?"),
    (rule("phone: {rule: latest, opt_in_from: §[crm]}"), "opt_in_from is for consent", ""),
    (rule("§fone: {rule: latest}"), "fone has no type", "did you mean phone?"),
    (rule("§shoe: {rule: latest}"), "shoe has no type", "a new field needs a type: boolean"),
    (rule("shoe: {type: §nubmer}"), "the type 'nubmer' is not known", "boolean"),
    (rule("shoe: {type: §txt}"), "the type 'txt' is not known", "did you mean text?"),
    (rule("email: {type: §text}"), "email is email in the canonical contact", "another name"),
    (rule("boss: {type: ref, entity: §conatct}"), "the entity 'conatct' is not known", "did you mean contact?"),
    (rule("boss: §{type: ref}"), "a reference needs its entity", "contact"),
    (rule("shoe: {type: text, entity: §contact}"), "entity is for references, this is text", "type: ref"),
    (rule("shoe: {type: text, required: §true}"), "required is for references", "requires"),
    (rule("§claims: {type: text}"), "claims has a meaning of its own", "another name"),
    (rule("city: {follow: §contry}"), "contry is not a field of contact", "did you mean country?"),
    (rule("city: {follow: §tags}"), "tags is decided by union, which no single record wins", "another"),
    (rule("city: §{follow: country}, country: {follow: city}"), "is a circle", "another rule"),
    (rule("city: §{type: text, expression: upper(country)}, country: {expression: lower(city)}"), "is a circle", "another"),
    (rule("city: {expression: §lower(city)}"), "city cannot be computed from itself", "claims['crm']"),
    (rule("city: {expression: §now()}"), "the function now is not known", ""),
    (rule("city: {python: §nothing}"), "'nothing' names no function", "package.module:function"),
    (rule("city: {python: §no_such_module_anywhere:f}"), "cannot be imported: ModuleNotFoundError", "beside hub.yaml"),
    (rule("city: {python: §tests.config.samples:hihgest}"), "has no function hihgest", "did you mean highest?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what", "suggestion"), CASES, ids=[f"{i}-{case[1][:30]}" for i, case in enumerate(CASES)]
)
def test_a_mistake_is_found_where_it_is(text: str, what: str, suggestion: str) -> None:
    before = text[: text.index("§")]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    with pytest.raises(ConfigError) as raised:
        loads(text.replace("§", ""), MANIFESTS, ENV)
    found = problems(raised.value)
    assert [problem.where for problem in found] == [f"{line}:{column}"], found
    assert what in found[0].what
    assert suggestion in found[0].suggestion


def test_the_samples_themselves_are_right() -> None:
    assert loads(CRM, MANIFESTS, ENV).warnings == ()
    assert loads(HUBSPOT, MANIFESTS, ENV).warnings == ()


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = HUBSPOT.replace("email: email", "emial: email, phone: [a, b]").replace("${HUBSPOT_TOKEN}", "pat-hunter2")
    text += "entities:\n  contact:\n    match: [mail]\n    fields: {consent: latest, city: {follow: twon}}\n"
    with pytest.raises(ConfigError) as raised:
        loads(text, MANIFESTS, ENV, "conf/hub.yaml")
    lines = [int(re.fullmatch(r"conf/hub\.yaml:(\d+):\d+", p.where)[1]) for p in raised.value.problems]  # type: ignore[index]
    assert lines == [11, 11, 14, 18, 19, 19]
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/crm",
        "postgresql://me@127.0.0.1:5432/crm",
        "postgresql://me@/crm?host=/run/x",
        "${CRM_URL}",
        "postgresql://me:${PASSWORD}@db.example.com:5432/crm",
        "postgresql://me:${PW}@${HOST}:${PORT}/crm",
        "file:url.txt",
    ],
)
def test_a_url_without_a_secret_in_it_may_be_written(url: str) -> None:
    assert loads(crm("${CRM_URL}", url), MANIFESTS, ENV).systems["crm"].settings["url"] == url


def test_a_system_that_never_says_anything_of_a_field_is_a_warning() -> None:
    (warning,) = loads(rule("job_title: {truth: [crm, hubspot]}"), MANIFESTS, ENV).warnings
    assert (warning.where, "crm never says anything of job_title" in warning.what) == ("hub.yaml:18:34", True)


LEADS = crm("      contacts:", "      leads: {entity: contact, table: leads, fields: {email: email}}\n      contacts:")


def test_two_objects_that_would_both_get_every_record_are_a_warning() -> None:
    (warning,) = loads(LEADS, MANIFESTS, ENV).warnings
    assert warning.where == "hub.yaml:9:7"
    assert warning.what == "every contact will be created as leads and as contacts"


@pytest.mark.parametrize(
    "told", ["create: false", "when: email is not None", "constants: {lifecycle: lead}", "direction: in"]
)
def test_two_objects_that_are_told_apart_are_none(told: str) -> None:
    text = LEADS.replace("table: leads,", f"table: leads, {told},")
    text = text.replace("table: contacts\n", "table: contacts\n        constants: {lifecycle: customer}\n")
    assert loads(text, MANIFESTS, ENV).warnings == ()


def test_an_alias_that_contains_itself_and_a_bomb_of_aliases_end() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcdef", "bcdefg", strict=True):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for text in ("a: &a [*a]\n", bomb):
        with pytest.raises(ConfigError, match="nested too deeply"):
            loads(text, MANIFESTS, ENV)


def test_a_configuration_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_bytes("version: 1 # é".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path, MANIFESTS, ENV)
