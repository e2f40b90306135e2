"""The words that the demo's small business is made of. Addresses end in a reserved name (RFC 2606): none is real."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    "Aaron Abigail Adrián Aisha Alan Alejandra Alexandra Amelia André Anja Anna Antonio Astrid Ayşe Beatriz Benjamin "
    "Björn Brian Camille Carlos Carmen Catherine Chloé Christopher Clara Daniel David Diego Dorothy Edward Elena "
    "Elizabeth Émile Emma Erik Esther Eva Fatima Felix Fiona François Gabriel George Grace Hannah Hans Helen Henry "
    "Ingrid Isabel Ivan Jack Jakub Jane Javier Jennifer Joanna John José Joseph Julia Karen Kevin Khalid Laura Léa "
    "Linda Liam Łukasz Lucía Magnus Margaret María Mark Martin Mary Matthew Mei Michael Miguel Minh Mohammed Nadia "
    "Natalie Nicholas Nina Noah Olga Oliver Patricia Paul Peter Priya Rachel Rafael Rebecca Renée Richard Robert "
    "Rosa Ruth Samuel Sarah Sean Siobhán Sofía Søren Stephen Susan Thomas Tomáš Uwe Valentina Victor Wei William "
    "Yuki Yusuf Zoë"
)

LAST = _words(
    "Abbott Adeyemi Ahmed Albrecht Almeida Andersson Bailey Baker Barros Bauer Becker Bell Bennett Berg Björklund "
    "Boucher Brandt Brooks Brown Campbell Carter Castillo Çelik Chen Clark Cohen Cooper Costa Cruz Davies Delgado "
    "Díaz Dubois Dvořák Edwards Eriksen Evans Fernández Fischer Fleming Foster Fournier García Girard González "
    "Gray Green Gupta Hall Hansen Harris Hernández Hoffmann Horvat Hughes Ibrahim Ito Ivanova Jackson Jensen Jones "
    "Kapoor Keller Kelly Khan Kim King Klein Kowalski Krause Lambert Larsen Lefèvre Lehmann Lewis Lindqvist López "
    "MacLeod Mäkinen Marino Martin Martínez Mendes Meyer Mitchell Moreau Morgan Müller Murphy Nakamura Nguyễn "
    "Nielsen Novák Núñez O'Brien O'Connor Okafor Olsen Ortega Owens Parker Patel Pereira Peterson Petrov Phillips "
    "Quinn Ramírez Reid Richter Rivera Roberts Romero Rossi Roux Russell Sánchez Santos Sato Schäfer Schmidt "
    "Schneider Scott Sharma Silva Simon Singh Smith Sørensen Stewart Sullivan Suzuki Takahashi Tanaka Taylor "
    "Thompson Torres Tremblay Turner Vargas Vogel Wagner Walker Wang Watson Weber White Wilson Winkler Wójcik Wood "
    "Wright Yamamoto Yılmaz Young Zhang Zimmermann"
)

NICKNAMES = {
    "Benjamin": "Ben", "Catherine": "Cathy", "Christopher": "Chris", "Daniel": "Dan", "Elizabeth": "Liz",
    "Jennifer": "Jen", "Joseph": "Joe", "Margaret": "Maggie", "Matthew": "Matt", "Michael": "Mike",
    "Nicholas": "Nick", "Patricia": "Pat", "Rebecca": "Becky", "Richard": "Rick", "Robert": "Bob",
    "Samuel": "Sam", "Stephen": "Steve", "Susan": "Sue", "Thomas": "Tom", "William": "Bill",
}  # fmt: skip

# City, country, and how its people write a telephone number (N: a digit from 2 to 9, #: any digit).
PLACES = (
    ("San Francisco", "United States", "(415) 555-01##"), ("Austin", "United States", "512-555-01##"),
    ("Chicago", "United States", "312.555.01## x1#"), ("Denver", "United States", "+1 720 555 01##"),
    ("New York", "United States", "(212) 555-01##"), ("Portland", "United States", "503 555 01##"),
    ("Toronto", "Canada", "+1 416 555 01##"), ("Montréal", "Canada", "+1 (514) 555-01##"),
    ("London", "United Kingdom", "+44 20 7946 0###"), ("Leeds", "United Kingdom", "+44 113 496 0###"),
    ("Berlin", "Germany", "+49 30 2312 5###"), ("München", "Germany", "+49 89 2441 5###"),
    ("Paris", "France", "+33 1 99 00 ## ##"), ("Lyon", "France", "+33 4 65 71 ## ##"),
    ("Madrid", "Spain", "+34 91 N55 ## ##"), ("Göteborg", "Sweden", "+46 31 390 60 ##"),
    ("Kraków", "Poland", "+48 12 N55 ## ##"), ("São Paulo", "Brazil", "+55 11 N555-01##"),
    ("Tokyo", "Japan", "+81 3 N555 01##"), ("Sydney", "Australia", "+61 2 5550 ####"),
)  # fmt: skip

COUNTRY_SPELLINGS = {
    "United States": ("USA", "U.S.", "united states", "US"), "United Kingdom": ("UK", "Great Britain", "England"),
    "Germany": ("Deutschland", "GERMANY", "DE"), "France": ("FR", "france"), "Spain": ("España", "ES"),
    "Canada": ("CA", "CANADA"), "Sweden": ("Sverige",), "Poland": ("Polska",), "Brazil": ("Brasil", "BR"),
    "Japan": ("JP",), "Australia": ("AUS", "Australia."),
}  # fmt: skip

# The CRM's industries, of which each has one that HubSpot knows.
INDUSTRIES = (
    "Software", "Manufacturing", "Logistics", "Retail", "Health care", "Construction", "Insurance", "Food", "Education",
    "Consulting",
)  # fmt: skip

COMPANY_FIRST = _words(
    "Alder Amber Anchor Apex Aspen Atlas Aurora Beacon Birch Bluewater Bright Canyon Cedar Cobalt Copper Crescent "
    "Delta Eagle Eastbay Elm Ember Falcon Fern Granite Greenfield Harbor Hawthorn Highland Horizon Ironbridge "
    "Juniper Keystone Lakeside Lantern Laurel Lighthouse Magnolia Maple Meridian Millbrook Northern Oakhill Olive "
    "Orchard Osprey Pacific Pine Pioneer Prairie Quarry Raven Redwood River Rowan Sable Sequoia Silver Summit "
    "Sycamore Tidewater Union Valley Vista Walnut Westbrook Willow"
)

COMPANY_SECOND = _words(
    "Analytics Builders Bakery Capital Clinics Components Consulting Dairy Dental Design Electronics Energy "
    "Engineering Estates Foods Freight Furniture Instruments Interiors Labs Learning Logistics Machines Media Motors "
    "Optics Outfitters Packaging Partners Pharma Plastics Press Robotics Security Software Solar Staffing Supply "
    "Systems Textiles Tools Travel Ventures Water"
)

LEGAL = ("Inc.", "LLC", "Ltd", "GmbH", "Group", "& Co.", "")

# Company names that columns, labels and file names tend to trip over; the first one has 60 characters.
ODD_COMPANIES = (
    "Consolidated Northern Harbor Warehousing & Forwarding Co Ltd",
    "Ökostrom Süd GmbH & Co. KG",
    "«Zoë's» Café, Bar & Grill",
    "  Trailing Blanks Trading  ",
    "株式会社サンプル",
)

TITLES = (
    "Account Manager", "Buyer", "CEO", "CFO", "Chief Engineer", "COO", "CTO", "Director of Operations",
    "Facilities Manager", "Finance Manager", "Head of Purchasing", "HR Manager", "IT Manager", "Marketing Manager",
    "Product Manager", "Project Manager", "Sales Director", "VP Sales",
)  # fmt: skip

OWNERS = ("dana.reyes@northwind-crm.example", "lee.park@northwind-crm.example", "sam.ortiz@northwind-crm.example")

BAD_PHONES = ("call mobile!", "n/a", "see website", "-", "ask reception", "12")

CRM_TAGS = ("key account", "newsletter", "partner", "reference", "renewal")
MAILCHIMP_TAGS = ("newsletter", "vip", "webinar", "trade fair", "trial")

DEAL_WORDS = (
    "annual licence",
    "expansion",
    "maintenance",
    "onboarding",
    "pilot",
    "renewal",
    "rollout",
    "spare parts",
    "upgrade",
)

# What was talked about: subject and body for each kind of engagement.
TALKS = {
    "note": ("", ("Prefers e-mail to calls.", "Budget is decided in March.", "Asked for a reference customer.",
                  "Uses a competitor until the contract ends.", "Very happy with support – “keep it up”.")),
    "call": ("Call", ("Left a message, will try again.", "Went through the offer line by line.",
                      "Wants a shorter term.", "Confirmed the delivery date.")),
    "email": ("Offer", ("Please find the offer attached.", "Thank you for the meeting.",
                        "Here is the revised price list.", "A short reminder about the open questions.")),
    "meeting": ("Meeting", ("Demo for the whole team.", "Quarterly review.", "Kick-off with the project group.")),
    "task": ("Follow up", ("Send the contract.", "Prepare the demo account.", "Check credit limit.")),
}  # fmt: skip
