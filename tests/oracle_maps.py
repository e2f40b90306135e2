"""The demo's world as tables: types, rules and native names, as hub/edge/demo/hub.yaml and the connectors mean them."""

ORDER = ("crm", "hubspot", "mailchimp")
ROLES = frozenset(
    {"abuse", "admin", "billing", "contact", "enquiries", "help", "hello", "info", "invoices", "jobs", "mail"}
    | {"marketing", "noreply", "no-reply", "office", "orders", "postmaster", "press", "privacy", "sales", "security"}
    | {"service", "support", "team", "webmaster"}
)

TYPES = {
    "company": {"name": "text", "domain": "domain", "phone": "phone", "industry": "text", "city": "text",
                "country": "text", "employees": "integer", "annual_revenue": "decimal"},
    "contact": {"email": "email", "first_name": "text", "last_name": "text", "phone": "phone", "job_title": "text",
                "city": "text", "country": "text", "lifecycle": "text", "owner_email": "email", "company": "ref",
                "consent": "consent", "tags": "tags"},
    "deal": {"name": "text", "amount": "decimal", "currency": "text", "stage": "text", "close_date": "date",
             "company": "ref", "contact": "ref"},
    "engagement": {"kind": "text", "subject": "text", "body": "text", "occurred_at": "timestamp", "status": "text",
                   "duration_seconds": "integer", "contact": "ref", "company": "ref", "deal": "ref"},
}  # fmt: skip

# Where nothing stands here, the systems are believed in ORDER.
RULES: dict[tuple[str, str], str | tuple[str, ...]] = {
    ("company", "employees"): ("hubspot", "crm"),
    ("contact", "phone"): "latest",
    ("contact", "job_title"): ("hubspot", "crm"),
    ("contact", "country"): "follow city",
    ("contact", "lifecycle"): ("hubspot", "crm"),
    ("contact", "consent"): "strictest",
    ("contact", "tags"): "union",
    ("deal", "stage"): "latest",
}
OPT_IN_FROM = ("crm", "mailchimp")
DELETES = {"crm": "propagate", "hubspot": "detach", "mailchimp": "detach"}

# (system, object) -> entity and canonical field -> native field. "@contacts" is what a record is associated with.
TALK = {"body": "hs_note_body", "occurred_at": "hs_timestamp", "contact": "@contacts", "company": "@companies",
        "deal": "@deals"}  # fmt: skip
MAPS: dict[tuple[str, str], tuple[str, dict[str, str]]] = {
    ("crm", "companies"): ("company", {name: name for name in TYPES["company"]}),
    ("crm", "contacts"): ("contact", {**{name: name for name in TYPES["contact"]}, "company": "company_id",
                                      "consent": "email_consent"}),
    ("crm", "deals"): ("deal", {**{name: name for name in TYPES["deal"]}, "company": "company_id",
                                "contact": "contact_id"}),
    ("crm", "engagements"): ("engagement", {**{name: name for name in TYPES["engagement"]}, "company": "company_id",
                                            "contact": "contact_id", "deal": "deal_id"}),
    ("hubspot", "companies"): ("company", {"name": "name", "domain": "domain", "phone": "phone", "industry": "industry",
                                           "city": "city", "country": "country", "employees": "numberofemployees",
                                           "annual_revenue": "annualrevenue"}),
    ("hubspot", "contacts"): ("contact", {"email": "email", "first_name": "firstname", "last_name": "lastname",
                                          "phone": "phone", "job_title": "jobtitle", "city": "city",
                                          "country": "country", "lifecycle": "lifecyclestage", "company": "@companies",
                                          "consent": "hub_consent"}),
    ("hubspot", "deals"): ("deal", {"name": "dealname", "amount": "amount", "currency": "deal_currency_code",
                                    "stage": "dealstage", "close_date": "closedate", "company": "@companies",
                                    "contact": "@contacts"}),
    ("hubspot", "notes"): ("engagement", TALK),
    ("hubspot", "calls"): ("engagement", {**TALK, "subject": "hs_call_title", "body": "hs_call_body",
                                          "status": "hs_call_status", "duration_seconds": "hs_call_duration"}),
    ("hubspot", "emails"): ("engagement", {**TALK, "subject": "hs_email_subject", "body": "hs_email_text",
                                           "status": "hs_email_status"}),
    ("hubspot", "meetings"): ("engagement", {**TALK, "subject": "hs_meeting_title", "body": "hs_meeting_body",
                                             "status": "hs_meeting_outcome"}),
    ("hubspot", "tasks"): ("engagement", {**TALK, "subject": "hs_task_subject", "body": "hs_task_body",
                                          "status": "hs_task_status"}),
    ("mailchimp", "members"): ("contact", {"email": "email_address", "first_name": "FNAME", "last_name": "LNAME",
                                           "phone": "PHONE", "consent": "status", "tags": "tags"}),
    ("mailchimp", "activity"): ("engagement", {"subject": "subject", "body": "detail", "occurred_at": "occurred_at",
                                              "contact": "@members"}),
}  # fmt: skip
ONLY_TOLD = {("mailchimp", "members", "phone")}
KINDS = {"notes": "note", "calls": "call", "emails": "email", "meetings": "meeting", "tasks": "task"}
REFERS = {"company": "companies", "contact": "contacts", "deal": "deals"}
CRM_STAGES = {"new": "appointmentscheduled", "qualified": "qualifiedtobuy", "presented": "presentationscheduled",
              "decision": "decisionmakerboughtin", "contract": "contractsent", "won": "closedwon",
              "lost": "closedlost"}  # fmt: skip
CRM_LIFECYCLES = {"mql": "marketingqualifiedlead", "sql": "salesqualifiedlead"}
HUBSPOT_INDUSTRIES = {"COMPUTER_SOFTWARE": "Software", "MACHINERY": "Manufacturing",
                      "LOGISTICS_AND_SUPPLY_CHAIN": "Logistics", "RETAIL": "Retail",
                      "HOSPITAL_HEALTH_CARE": "Health care", "CONSTRUCTION": "Construction", "INSURANCE": "Insurance",
                      "FOOD_PRODUCTION": "Food", "EDUCATION_MANAGEMENT": "Education",
                      "MANAGEMENT_CONSULTING": "Consulting"}  # fmt: skip
