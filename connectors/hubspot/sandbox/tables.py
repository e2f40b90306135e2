"""HubSpot's default properties as tables: the subset that integrations use, with HubSpot's names, types and options.

Sources are in NOTES.md. A row is `name|label|type|field type|flags|options`. The flags are `r` read only, `c`
calculated, `u` unique and `o` options kept elsewhere; options are `value:Label` with commas between, or `@` and a key
of OPTIONS.
"""

OPTIONS = {
    "bool": "true:True,false:False",
    "lifecycle": "subscriber:Subscriber,lead:Lead,marketingqualifiedlead:Marketing Qualified Lead,"
    "salesqualifiedlead:Sales Qualified Lead,opportunity:Opportunity,customer:Customer,evangelist:Evangelist,"
    "other:Other",
    "lead": "NEW:New,OPEN:Open,IN_PROGRESS:In Progress,OPEN_DEAL:Open Deal,UNQUALIFIED:Unqualified,"
    "ATTEMPTED_TO_CONTACT:Attempted to Contact,CONNECTED:Connected,BAD_TIMING:Bad Timing",
    "company_type": "PROSPECT:Prospect,PARTNER:Partner,RESELLER:Reseller,VENDOR:Vendor,OTHER:Other",
    "deal_type": "newbusiness:New Business,existingbusiness:Existing Business",
    "priority": "low:Low,medium:Medium,high:High",
    "outcome": "SCHEDULED:Scheduled,COMPLETED:Completed,RESCHEDULED:Rescheduled,NO_SHOW:No show,CANCELED:Canceled",
    "call_status": "BUSY:Busy,CALLING_CRM_USER:Calling CRM User,CANCELED:Canceled,COMPLETED:Completed,"
    "CONNECTING:Connecting,FAILED:Failed,IN_PROGRESS:In Progress,NO_ANSWER:No Answer,QUEUED:Queued,RINGING:Ringing",
    "call_direction": "INBOUND:Inbound,OUTBOUND:Outbound",
    "email_direction": "EMAIL:Email,INCOMING_EMAIL:Incoming email,FORWARDED_EMAIL:Forwarded email",
    "email_status": "BOUNCED:Bounced,FAILED:Failed,SCHEDULED:Scheduled,SENDING:Sending,SENT:Sent",
    "task_status": "COMPLETED:Completed,DEFERRED:Deferred,IN_PROGRESS:In progress,NOT_STARTED:Not started,"
    "WAITING:Waiting",
    "task_priority": "NONE:None,LOW:Low,MEDIUM:Medium,HIGH:High",
    "task_type": "EMAIL:Email,CALL:Call,TODO:To-do",
}

_INDUSTRIES = """ACCOUNTING AIRLINES_AVIATION ALTERNATIVE_DISPUTE_RESOLUTION ALTERNATIVE_MEDICINE ANIMATION
APPAREL_FASHION ARCHITECTURE_PLANNING ARTS_AND_CRAFTS AUTOMOTIVE AVIATION_AEROSPACE BANKING BIOTECHNOLOGY
BROADCAST_MEDIA BUILDING_MATERIALS BUSINESS_SUPPLIES_AND_EQUIPMENT CAPITAL_MARKETS CHEMICALS
CIVIC_SOCIAL_ORGANIZATION CIVIL_ENGINEERING COMMERCIAL_REAL_ESTATE COMPUTER_NETWORK_SECURITY COMPUTER_GAMES
COMPUTER_HARDWARE COMPUTER_NETWORKING COMPUTER_SOFTWARE INTERNET CONSTRUCTION CONSUMER_ELECTRONICS CONSUMER_GOODS
CONSUMER_SERVICES COSMETICS DAIRY DEFENSE_SPACE DESIGN EDUCATION_MANAGEMENT E_LEARNING
ELECTRICAL_ELECTRONIC_MANUFACTURING ENTERTAINMENT ENVIRONMENTAL_SERVICES EVENTS_SERVICES EXECUTIVE_OFFICE
FACILITIES_SERVICES FARMING FINANCIAL_SERVICES FINE_ART FISHERY FOOD_BEVERAGES FOOD_PRODUCTION FUND_RAISING FURNITURE
GAMBLING_CASINOS GLASS_CERAMICS_CONCRETE GOVERNMENT_ADMINISTRATION GOVERNMENT_RELATIONS GRAPHIC_DESIGN
HEALTH_WELLNESS_AND_FITNESS HIGHER_EDUCATION HOSPITAL_HEALTH_CARE HOSPITALITY HUMAN_RESOURCES IMPORT_AND_EXPORT
INDIVIDUAL_FAMILY_SERVICES INDUSTRIAL_AUTOMATION INFORMATION_SERVICES INFORMATION_TECHNOLOGY_AND_SERVICES INSURANCE
INTERNATIONAL_AFFAIRS INTERNATIONAL_TRADE_AND_DEVELOPMENT INVESTMENT_BANKING INVESTMENT_MANAGEMENT JUDICIARY
LAW_ENFORCEMENT LAW_PRACTICE LEGAL_SERVICES LEGISLATIVE_OFFICE LEISURE_TRAVEL_TOURISM LIBRARIES
LOGISTICS_AND_SUPPLY_CHAIN LUXURY_GOODS_JEWELRY MACHINERY MANAGEMENT_CONSULTING MARITIME MARKET_RESEARCH
MARKETING_AND_ADVERTISING MECHANICAL_OR_INDUSTRIAL_ENGINEERING MEDIA_PRODUCTION MEDICAL_DEVICES MEDICAL_PRACTICE
MENTAL_HEALTH_CARE MILITARY MINING_METALS MOTION_PICTURES_AND_FILM MUSEUMS_AND_INSTITUTIONS MUSIC NANOTECHNOLOGY
NEWSPAPERS NON_PROFIT_ORGANIZATION_MANAGEMENT OIL_ENERGY ONLINE_MEDIA OUTSOURCING_OFFSHORING PACKAGE_FREIGHT_DELIVERY
PACKAGING_AND_CONTAINERS PAPER_FOREST_PRODUCTS PERFORMING_ARTS PHARMACEUTICALS PHILANTHROPY PHOTOGRAPHY PLASTICS
POLITICAL_ORGANIZATION PRIMARY_SECONDARY_EDUCATION PRINTING PROFESSIONAL_TRAINING_COACHING PROGRAM_DEVELOPMENT
PUBLIC_POLICY PUBLIC_RELATIONS_AND_COMMUNICATIONS PUBLIC_SAFETY PUBLISHING RAILROAD_MANUFACTURE RANCHING REAL_ESTATE
RECREATIONAL_FACILITIES_AND_SERVICES RELIGIOUS_INSTITUTIONS RENEWABLES_ENVIRONMENT RESEARCH RESTAURANTS RETAIL
SECURITY_AND_INVESTIGATIONS SEMICONDUCTORS SHIPBUILDING SPORTING_GOODS SPORTS STAFFING_AND_RECRUITING SUPERMARKETS
TELECOMMUNICATIONS TEXTILES THINK_TANKS TOBACCO TRANSLATION_AND_LOCALIZATION TRANSPORTATION_TRUCKING_RAILROAD
UTILITIES VENTURE_CAPITAL_PRIVATE_EQUITY VETERINARY WAREHOUSING WHOLESALE WINE_AND_SPIRITS WIRELESS
WRITING_AND_EDITING"""
OPTIONS["industry"] = ",".join(f"{value}:{value.replace('_', ' ').title()}" for value in _INDUSTRIES.split())

EVERY = """
hs_object_id|Record ID|number|number|r
hs_createdate|Object create date/time|datetime|date|r
hs_merged_object_ids|Merged object IDs|enumeration|checkbox|ro
hs_object_source|Record source|string|text|r
hs_object_source_label|Record source label|string|text|r
hubspot_owner_id|Owner|enumeration|select|o
"""
MODIFIED = """
hs_lastmodifieddate|Object last modified date/time|datetime|date|r
"""
SUMMARY = """
notes_last_updated|Last Activity Date|datetime|date|rc
num_notes|Number of Sales Activities|number|number|rc
"""
PROPERTIES = {
    "0-1": """
email|Email|string|text|u
firstname|First Name|string|text
lastname|Last Name|string|text
phone|Phone Number|string|phonenumber
mobilephone|Mobile Phone Number|string|phonenumber
fax|Fax Number|string|phonenumber
company|Company Name|string|text
jobtitle|Job Title|string|text
website|Website URL|string|text
address|Street Address|string|text
city|City|string|text
state|State/Region|string|text
zip|Postal Code|string|text
country|Country/Region|string|text
industry|Industry|string|text
salutation|Salutation|string|text
message|Message|string|textarea
date_of_birth|Date of birth|string|text
annualrevenue|Annual Revenue|string|text
numemployees|Number of Employees|enumeration|select||1-5:1-5,5-25:5-25,25-50:25-50,50-100:50-100,100-500:100-500,\
500-1000:500-1000,1000+:1000+
lifecyclestage|Lifecycle Stage|enumeration|radio||@lifecycle
hs_lead_status|Lead Status|enumeration|radio||@lead
hs_email_optout|Unsubscribed from all email|bool|booleancheckbox|r|@bool
hs_email_domain|Email Domain|string|text|rc
hs_additional_emails|Additional email addresses|enumeration|checkbox|ro
hs_marketable_status|Marketing contact status|enumeration|select|ro
hs_language|Preferred language|string|text
hs_timezone|Time Zone|string|text
hs_is_contact|Is a contact|bool|booleancheckbox|rc|@bool
associatedcompanyid|Primary Associated Company ID|number|number|rc
num_associated_deals|Number of Associated Deals|number|number|rc
createdate|Create Date|datetime|date|r
lastmodifieddate|Last Modified Date|datetime|date|r
""",
    "0-2": """
name|Company name|string|text
domain|Company Domain Name|string|text
website|Website URL|string|text
phone|Phone Number|string|phonenumber
address|Street Address|string|text
address2|Street Address 2|string|text
city|City|string|text
state|State/Region|string|text
zip|Postal Code|string|text
country|Country/Region|string|text
industry|Industry|enumeration|select||@industry
type|Type|enumeration|radio||@company_type
description|Description|string|textarea
about_us|About Us|string|textarea
annualrevenue|Annual Revenue|number|number
numberofemployees|Number of Employees|number|number
founded_year|Year Founded|string|text
timezone|Time Zone|string|text
lifecyclestage|Lifecycle Stage|enumeration|radio||@lifecycle
hs_lead_status|Lead Status|enumeration|radio||@lead
linkedin_company_page|LinkedIn Company Page|string|text
num_associated_contacts|Number of Associated Contacts|number|number|rc
num_associated_deals|Number of Associated Deals|number|number|rc
createdate|Create Date|datetime|date|r
""",
    "0-3": """
dealname|Deal Name|string|text
amount|Amount|number|number
closedate|Close Date|datetime|date
pipeline|Pipeline|enumeration|select|o
dealstage|Deal Stage|enumeration|radio|o
dealtype|Deal Type|enumeration|radio||@deal_type
description|Deal Description|string|textarea
deal_currency_code|Currency|enumeration|select|o
hs_priority|Priority|enumeration|select||@priority
closed_lost_reason|Closed Lost Reason|string|textarea
closed_won_reason|Closed Won Reason|string|textarea
hs_is_closed|Is Deal Closed?|bool|booleancheckbox|rc|@bool
hs_is_closed_won|Is Closed Won|bool|booleancheckbox|rc|@bool
hs_deal_stage_probability|Deal probability|number|number|rc
num_associated_contacts|Number of Associated Contacts|number|number|rc
createdate|Create Date|datetime|date
""",
    "0-46": """
hs_timestamp|Activity date|datetime|date
hs_note_body|Note body|string|html
hs_attachment_ids|Attached file IDs|enumeration|checkbox|o
""",
    "0-47": """
hs_timestamp|Activity date|datetime|date
hs_meeting_title|Meeting name|string|text
hs_meeting_body|Meeting description|string|html
hs_internal_meeting_notes|Internal meeting notes|string|html
hs_meeting_external_url|External URL|string|text
hs_meeting_location|Meeting location|string|text
hs_meeting_start_time|Meeting start time|datetime|date
hs_meeting_end_time|Meeting end time|datetime|date
hs_meeting_outcome|Meeting outcome|enumeration|select||@outcome
hs_activity_type|Call and meeting type|enumeration|select|o
hs_attachment_ids|Attached file IDs|enumeration|checkbox|o
""",
    "0-48": """
hs_timestamp|Activity date|datetime|date
hs_call_title|Call Title|string|text
hs_call_body|Call notes|string|html
hs_call_callee_object_id|Call callee object id|number|number
hs_call_direction|Call direction|enumeration|select||@call_direction
hs_call_disposition|Call outcome|enumeration|select|o
hs_call_duration|Call duration|number|number
hs_call_from_number|From number|string|text
hs_call_to_number|To Number|string|text
hs_call_recording_url|Recording URL|string|text
hs_call_status|Call status|enumeration|select||@call_status
hs_activity_type|Call and meeting type|enumeration|select|o
hs_attachment_ids|Attached file IDs|enumeration|checkbox|o
""",
    "0-49": """
hs_timestamp|Activity date|datetime|date
hs_email_subject|Email subject|string|text
hs_email_text|Email text|string|textarea
hs_email_html|Email HTML|string|html
hs_email_headers|Email headers|string|textarea
hs_email_direction|Email direction|enumeration|select||@email_direction
hs_email_status|Email send status|enumeration|select||@email_status
hs_email_message_id|Email message id|string|text
hs_attachment_ids|Attached file IDs|enumeration|checkbox|o
""",
    "0-27": """
hs_timestamp|Due date|datetime|date
hs_task_subject|Task Title|string|text
hs_task_body|Task Notes|string|html
hs_task_status|Task Status|enumeration|select||@task_status
hs_task_priority|Priority|enumeration|select||@task_priority
hs_task_type|Task Type|enumeration|select||@task_type
hs_task_reminders|Task reminders|datetime|date
""",
}

GROUPS = {
    "0-1": ("contactinformation", "Contact information"),
    "0-2": ("companyinformation", "Company information"),
    "0-3": ("dealinformation", "Deal information"),
    "0-46": ("engagement", "Engagement information"),
    "0-47": ("engagement", "Engagement information"),
    "0-48": ("engagement", "Engagement information"),
    "0-49": ("engagement", "Engagement information"),
    "0-27": ("task", "Task information"),
}
