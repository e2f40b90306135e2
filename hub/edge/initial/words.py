"""The words by which `hub init` recognises tables and columns: data, in the order of preference."""

from collections.abc import Mapping

# The last word of a table's name, in the singular -> the entities that it may hold, likeliest first.
TABLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("contact", "person", "people", "lead", "subscriber", "member", "donor", "attendee"), ("contact",)),
    **dict.fromkeys(("customer", "client", "buyer", "kunde", "cliente"), ("contact", "company")),
    "user": ("contact",),
    **dict.fromkeys(("company", "organisation", "organization", "firm", "firma", "corporation"), ("company",)),
    **dict.fromkeys(("account", "business", "partner"), ("company", "contact")),
    **dict.fromkeys(("deal", "opportunity", "opp"), ("deal",)),
    **dict.fromkeys(
        ("engagement", "activity", "note", "interaction", "call", "meeting", "touchpoint"), ("engagement",)
    ),
    **dict.fromkeys(("invoice", "bill", "rechnung", "factura"), ("invoice",)),
    **dict.fromkeys(("order", "purchase"), ("order",)),
    **dict.fromkeys(("product", "article", "artikel"), ("product",)),
    **dict.fromkeys(("ticket", "case", "complaint"), ("ticket",)),
}

# Tables that hold an entity only where no better one is found.
LAST_RESORT = frozenset({"user", "account"})

# Words around a table's name that say nothing.
AFFIXES = frozenset(["t", "tb", "tbl", "table", "data", "master", "main", "list", "info", "crm", "dbo"])

# Tables that resemble an entity and are none.
NOT_MEANT: Mapping[str, str] = {
    **dict.fromkeys(("employee", "staff", "admin", "agent"), "holds your own people, who are not contacts"),
    **dict.fromkeys(("line", "item", "detail", "row", "position"), "holds lines of another table"),
    **dict.fromkeys(("history", "log", "audit", "archive", "backup", "bak", "old", "tmp", "temp"), "holds copies"),
}

# Entity -> field -> names of columns that hold it, the surest first.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "contact": {
        "email": "email e_mail email_address mail mail_address primary_email contact_email emailaddr",
        "first_name": "first_name firstname given_name forename fname first vorname prenom",
        "last_name": "last_name lastname surname family_name lname last nachname nom",
        "phone": "phone phone_number telephone phone_no tel mobile mobile_phone mobile_number cell cell_phone telefon",
        "job_title": "job_title jobtitle job position title",
        "city": "city town municipality ort ville mailing_city billing_city address_city",
        "country": "country country_name country_code land mailing_country billing_country address_country",
        "lifecycle": "lifecycle lifecycle_stage lead_status contact_status",
        "owner_email": "owner_email account_manager_email sales_rep_email",
        "tags": "tags labels",
    },
    "company": {
        "name": "name company_name company organisation_name organization_name account_name business_name legal_name",
        "domain": "domain domain_name website web_site homepage url web site web_address",
        "phone": "phone phone_number telephone phone_no tel main_phone telefon",
        "industry": "industry sector branch line_of_business",
        "city": "city town ort ville billing_city address_city",
        "country": "country country_name country_code land billing_country address_country",
        "employees": "employees employee_count number_of_employees num_employees headcount staff_count",
        "annual_revenue": "annual_revenue revenue yearly_revenue turnover",
    },
    "deal": {
        "name": "name deal_name opportunity_name title subject",
        "amount": "amount value total deal_value deal_amount expected_revenue price",
        "currency": "currency currency_code curr",
        "stage": "stage deal_stage pipeline_stage phase status",
        "close_date": "close_date closing_date closed_on closed_at expected_close_date expected_close",
    },
    "engagement": {
        "kind": "kind type activity_type engagement_type channel category",
        "subject": "subject title summary topic",
        "body": "body note notes text content description message comment",
        "occurred_at": "occurred_at happened_at activity_date logged_at start_time starts_at date created_at created_on",
        "status": "status",
        "duration_seconds": "duration_seconds duration_sec duration_s seconds",
    },
    "invoice": {
        "number": "number invoice_number invoice_no document_number doc_no reference code",
        "amount": "total amount total_amount grand_total invoice_total gross_total gross_amount sum",
        "currency": "currency currency_code curr",
        "issued_on": "issued_on invoice_date issue_date issued_at billed_on billed_at date created_at created_on",
        "status": "status state payment_status",
    },
    "order": {
        "number": "number order_number order_no reference code",
        "amount": "total amount total_amount grand_total order_total sum",
        "currency": "currency currency_code curr",
        "ordered_at": "ordered_at order_date placed_at ordered_on date created_at created_on",
        "status": "status state",
    },
    "product": {
        "name": "name product_name title",
        "sku": "sku article_number item_number product_code code",
        "price": "price unit_price list_price",
    },
    "ticket": {
        "subject": "subject title summary",
        "body": "body description text message content",
        "status": "status state",
        "priority": "priority severity",
    },
}

# One column for a whole name.
FULL_NAME = "name full_name fullname display_name contact_name customer_name person_name"

# A record of the entity must have one of these, or it is not worth a mapping.
ESSENTIAL: Mapping[str, tuple[str, ...]] = {
    "contact": ("email", "phone", "last_name"),
    "company": ("name", "domain"),
    "deal": ("name", "amount"),
    "engagement": ("subject", "body"),
    "invoice": ("amount",),
    "order": ("amount", "ordered_at"),
    "product": ("name", "sku"),
    "ticket": ("subject",),
}

# Fields that only a business has: what tells a table of companies from one of persons.
COMPANYLIKE = frozenset({"domain", "industry", "employees", "annual_revenue"})
COMPANY_SUFFIXES = frozenset(
    [
        "inc",
        "llc",
        "ltd",
        "limited",
        "gmbh",
        "ag",
        "kg",
        "corp",
        "corporation",
        "co",
        "plc",
        "sa",
        "sarl",
        "bv",
        "nv",
        "oy",
        "ab",
        "spa",
        "srl",
        "pty",
    ]
)
SALUTATIONS = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "m", "mme"})

# Fields whose values are a choice: a system's word -> the canonical one (HubSpot's own for stage and lifecycle).
CHOICES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("deal", "stage"): {
        "new": "appointmentscheduled", "open": "appointmentscheduled", "prospecting": "appointmentscheduled",
        "qualified": "qualifiedtobuy", "qualification": "qualifiedtobuy", "demo": "presentationscheduled",
        "presented": "presentationscheduled", "proposal": "decisionmakerboughtin", "decision": "decisionmakerboughtin",
        "negotiation": "decisionmakerboughtin", "contract": "contractsent", "contract sent": "contractsent",
        "won": "closedwon", "closed won": "closedwon", "lost": "closedlost", "closed lost": "closedlost",
    },
    ("contact", "lifecycle"): {
        "subscriber": "subscriber", "lead": "lead", "mql": "marketingqualifiedlead", "sql": "salesqualifiedlead",
        "opportunity": "opportunity", "prospect": "lead", "customer": "customer", "evangelist": "evangelist",
        "other": "other",
    },
    ("engagement", "kind"): {
        "note": "note", "comment": "note", "call": "call", "phone": "call", "phone call": "call", "email": "email",
        "e mail": "email", "mail": "email", "meeting": "meeting", "visit": "meeting", "demo": "meeting", "task": "task",
        "todo": "task", "to do": "task",
    },
}  # fmt: skip

# Consent: a flag or word for "may be written to", one for "must not be", and the time of either.
OPT_IN = (
    "email_consent consent marketing_consent newsletter newsletter_consent opt_in opted_in email_opt_in marketing_opt_in "
    "accepts_marketing subscribed is_subscribed gdpr_consent"
)
OPT_OUT = "opt_out opted_out email_opt_out do_not_email do_not_contact no_marketing unsubscribed is_unsubscribed"
CONSENT_WORDS = (
    ("yes", "no"), ("true", "false"), ("subscribed", "unsubscribed"), ("opt_in", "opt_out"), ("opted_in", "opted_out"),
)  # fmt: skip
CONSENT_TIMES = (
    "consent_at consent_date consented_at email_consent_at consent_given_at consent_updated_at opted_in_at opt_in_at "
    "opt_in_date subscribed_at opted_out_at opt_out_at opt_out_date unsubscribed_at newsletter_at"
)

# References: entity -> field -> the entity it refers to, and words in a column's name that speak for it.
REFERENCES: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "contact": {"company": ("company", ("company", "account", "organisation", "organization", "employer"))},
    "deal": {"company": ("company", ("company", "account")), "contact": ("contact", ("contact", "customer", "client"))},
    "engagement": {
        "contact": ("contact", ("contact", "customer", "client", "person")),
        "company": ("company", ("company", "account")),
        "deal": ("deal", ("deal", "opportunity")),
    },
    "invoice": {"customer": ("contact", ("customer", "client", "contact", "buyer"))},
    "order": {"customer": ("contact", ("customer", "client", "contact", "buyer"))},
    "ticket": {"customer": ("contact", ("customer", "client", "contact", "requester"))},
}

# Documents: what has been issued is not changed from elsewhere. Where no target has such an object, they go as deals.
DOCUMENTS = frozenset({"invoice", "order"})
AS_DEAL = {
    "amount": "amount", "currency": "currency", "issued_on": "close_date", "ordered_at": "close_date",
    "customer": "contact",
}  # fmt: skip

CHANGED_AT = (
    "updated_at modified_at last_modified last_updated updated_on modified_on changed_at updated modified lastmodified"
)
DELETED_AT = "deleted_at removed_at archived_at"
