"""A small model with every kind of rule, three systems, references, foreign ids and deletes of all meanings."""

from dataclasses import replace

from hub.entity import Entity, Field
from hub.mapping import FieldMap, ObjectMap
from hub.model import Model
from hub.rules import Rule

ORDER = ("crm", "shop", "news")
TRUTH = Rule("truth", ORDER)

CONTACT = Entity(
    "contact",
    {
        field.name: field
        for field in (
            Field("email", "email", TRUTH),
            Field("name", "text", Rule("latest")),
            Field("city", "text", TRUTH),
            Field("zip", "text", Rule("follow", field="city")),
            Field("phone", "phone", Rule("oldest")),
            Field("tier", "text", Rule("truth", ORDER, review=True)),
            Field("lifecycle", "text", Rule("most_common")),
            Field("tags", "tags", Rule("union")),
            Field("consent", "consent", Rule("strictest", ("crm", "news"))),
            Field("label", "text", Rule("expression", expression="join(' of ', name, city)")),
            Field("company", "ref", TRUTH, entity="company"),
        )
    },
    match=("email",),
    deletes={"crm": "propagate", "shop": "detach", "news": "ignore"},
    version="v1",
)
COMPANY = Entity(
    "company",
    {
        "name": Field("name", "text", TRUTH),
        "domain": Field("domain", "domain", TRUTH),
        "revenue": Field("revenue", "decimal", Rule("latest")),
    },
    match=("domain",),
    version="v1",
)


def _maps(*names: str) -> tuple[FieldMap, ...]:
    return tuple(FieldMap(name, (name,)) for name in names)


PERSON = ("name", "city", "zip", "phone", "tier", "lifecycle", "tags", "consent")
EMAIL = FieldMap("email", ("email",), unique=True)

CRM = ObjectMap(
    "crm", "contacts", CONTACT, (EMAIL, *_maps(*PERSON), FieldMap("company", ("company_id",), object="companies"))
)
FIRMS = ObjectMap("crm", "companies", COMPANY, _maps("name", "domain", "revenue"))
SHOP = ObjectMap(
    "shop",
    "customers",
    CONTACT,
    (
        EMAIL,
        *_maps(*PERSON),
        FieldMap("crm_id", ("crm_id",), identifies="crm.contacts"),
        FieldMap("hub_id", ("hub_id",), identifies="golden"),
    ),
)
NEWS = ObjectMap("news", "members", CONTACT, (EMAIL, *_maps("name", "tags", "consent")), marketing=True)


def model(contact: Entity = CONTACT) -> Model:
    """The model, with another contact entity where a test needs one."""
    maps = [replace(m, entity=contact) if m.entity is CONTACT else m for m in (CRM, FIRMS, SHOP, NEWS)]
    return Model({"contact": contact, "company": COMPANY}, {(m.system, m.object): m for m in maps}, "v1")
