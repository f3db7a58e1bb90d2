//! What a company wants to hear of at once: threats, self-harm, law, fraud, money taken back, regulators.
//!
//! English and German. A threat has a victim and self-harm a self: "this phone is killing me" and "kill the
//! app" are neither.

use super::phrases::Rule;

const THREAT: &str = "risk-threat";
const SELF_HARM: &str = "risk-self-harm";
const LEGAL: &str = "risk-legal";
const FRAUD: &str = "risk-fraud";
const CHARGEBACK: &str = "risk-chargeback";
const REGULATOR: &str = "risk-regulator";

pub(super) const SETS: [(&str, &str); 6] = [
    ("harm", "kill|murder|hurt|shoot|stab|strangle|attack|burn|bomb|destroy|beat|slap|punch|smash|torch"),
    (
        "victim",
        "you|him|her|them|everyone|everybody|someone|somebody|people|staff|employees|family|driver|courier|\
      building|store|office|shop|warehouse|place",
    ),
    ("lawyer", "lawyer|lawyers|attorney|attorneys|solicitor|solicitors|barrister|counsel"),
    ("anwalt", "anwalt|anwältin|anwalts|anwälte|rechtsanwalt|rechtsanwältin|rechtsbeistand"),
    (
        "payment",
        "charge|charges|transaction|transactions|payment|payments|purchase|purchases|withdrawal|order|orders|\
      transfer|debit",
    ),
    (
        "abbuchung",
        "abbuchung*|zahlung*|überweisung*|buchung*|bestellung*|lastschrift*|belastung*|transaktion*",
    ),
];

pub(super) const RULES: [Rule; 15] = [
    Rule {
        name: "threat-of-violence",
        kind: THREAT,
        score: 0.9,
        unless: "not|never|wont|dont|didnt|wouldnt",
        patterns: &[
            "i|ill|im|we|well|gonna|imma ~1 will|going|gonna|ll|want|could|shall|come ~3 {harm} ~2 {victim}",
            "ill|gonna|imma ~1 {harm} ~2 {victim}",
            "{harm} you|them|him|her all|both",
            "come|coming ~4 with ~2 gun|knife|bat|weapon",
            "bomb ~4 in|at|under|for ~2 your|the",
            "you|they|he|she ~1 deserve|deserves ~1 to die",
            "hope ~2 you|they|he|she ~1 die|dies|burn",
        ],
    },
    Rule {
        name: "menace",
        kind: THREAT,
        score: 0.7,
        unless: "",
        patterns: &[
            "i|we know where ~1 you|they|he|she ~1 live|lives|work|works",
            "watch your back",
            "you|youll ~2 regret this|it",
            "make you ~1 pay|suffer|regret",
            "find out where you ~1 live|work",
        ],
    },
    Rule {
        name: "gewaltdrohung",
        kind: THREAT,
        score: 0.9,
        unless: "nicht|nie",
        patterns: &[
            "ich ~1 bring|bringe ~2 euch|dich|sie|ihn|alle ~2 um",
            "ich ~1 werde|will|könnte ~4 umbringen|töten|erschießen|abstechen|verprügeln|schlagen",
            "ich ~1 stech|steche|schlag|schlage|erschieß|erschieße|töte ~2 euch|dich|sie|ihn",
            "ich weiß ~1 wo ~1 du|ihr|sie ~2 wohnst|wohnt|wohnen|arbeitest|arbeitet",
            "das ~1 werden|werdet|wirst ~1 sie|ihr|du ~2 bereuen|büßen",
            "bombe ~4 legen|hochgehen|platzieren",
        ],
    },
    Rule {
        name: "self-harm",
        kind: SELF_HARM,
        score: 0.95,
        unless: "",
        patterns: &[
            "kill|killing|hurt|hurting|harm|harming|cut|cutting|hang|shoot|drown ~1 myself",
            "end|ending|take|taking my ~1 own life",
            "end|ending my life",
            "suicide|suicidal",
            "want|wish|ready ~1 to die",
            "wanna die",
            "dont|not wanna ~1 live|alive anymore",
            "dont|not wanna ~1 live|alive $",
            "dont|not ~2 want|wanna ~1 to|be ~1 live|alive ~1 anymore",
            "dont|not ~2 want|wanna ~1 to|be ~1 live|alive $",
            "wish ~1 i ~1 was|were dead",
            "better off dead",
            "better off without me",
            "no ~1 reason|point ~1 to|in|of live|living",
            "self harm|selfharm|selfharming",
        ],
    },
    Rule {
        name: "selbstgefaehrdung",
        kind: SELF_HARM,
        score: 0.95,
        unless: "",
        patterns: &[
            "mich ~2 umbringen|umzubringen|töten|verletzen|erhängen|ritzen",
            "bringe|bring mich ~1 um",
            "mir ~3 das leben nehmen",
            "suizid*|selbstmord*",
            "nicht|nimmer ~1 mehr ~1 leben",
            "will|möchte ~3 sterben",
            "leben ~2 keinen sinn",
        ],
    },
    Rule {
        name: "legal-action",
        kind: LEGAL,
        score: 0.9,
        unless: "not|never|wont|without",
        patterns: &[
            "legal ~1 action|actions|proceedings|steps|measures|consequences",
            "sue|suing ~1 you|your|yall|them|ur",
            "sue|suing ~2 company|store|shop|seller|bank|airline",
            "take|taking|see|seeing ~4 to|in court",
            "lawsuit|lawsuits",
            "class action",
            "small claims",
            "press|pressing charges",
            "cease and desist",
        ],
    },
    Rule {
        name: "lawyer",
        kind: LEGAL,
        score: 0.75,
        unless: "im|am|as",
        patterns: &[
            "my|our|hire|hired|hiring|consult|consulting|consulted|contact|contacting|contacted|involve|involving ~2 {lawyer}",
            "{lawyer} ~3 will|is|has|says|said|contact|hear",
            "speak|talk|speaking|talking ~1 to|with ~2 {lawyer}",
            "hear|hearing ~2 from ~2 {lawyer}",
        ],
    },
    Rule {
        name: "rechtliche-schritte",
        kind: LEGAL,
        score: 0.9,
        unless: "nicht|kein|keine",
        patterns: &[
            "rechtliche|rechtlichen|juristische|juristischen ~1 schritte|schritten|mittel|konsequenzen",
            "verklage|verklagen|klage|klagen ~3 sie|euch|einreichen|erheben|gegen",
            "sie|euch ~3 verklagen|anzeigen",
            "vor gericht|amtsgericht",
            "anzeige|strafanzeige ~3 erstatten|stellen|erstatte",
            "strafanzeige",
            "mein|meine|meinen|meinem|unser|unserem ~1 {anwalt}",
            "{anwalt} ~3 einschalten|nehmen|beauftragen|melden|wenden|übergeben",
            "einschalten|beauftrage|beauftragen ~3 {anwalt}",
        ],
    },
    Rule {
        name: "police",
        kind: LEGAL,
        score: 0.7,
        unless: "",
        patterns: &[
            "call|calling|report|reported|reporting|go|going|contact|contacting|contacted ~4 police",
            "police report",
            "polizei ~3 gehen|rufen|melden|einschalten|anzeigen",
        ],
    },
    Rule {
        name: "fraud",
        kind: FRAUD,
        score: 0.8,
        unless: "",
        patterns: &[
            "fraud|fraudulent|fraudulently|fraudster*|scam|scams|scammed|scammer*|scamming|swindle*|phishing|phished",
            "identity ~1 theft|stolen|thief",
            "unauthorized|unauthorised|unrecognized|unrecognised|unknown ~1 {payment}",
            "didnt|never|not ~2 authorize|authorise|authorized|authorised|make|made|recognize|recognise|approve|approved \
             ~3 {payment}",
            "account|accounts|card|profile ~3 hacked|compromised|stolen|cloned",
            "hacked|stole|stolen|cloned ~2 my|our ~2 account|card|identity|profile",
            "someone|somebody ~4 used|using|stole|opened|accessed ~3 my ~3 card|account|identity|name",
        ],
    },
    Rule {
        name: "betrug",
        kind: FRAUD,
        score: 0.8,
        unless: "",
        patterns: &[
            "betrug|betrugs*|betrüger*|betrogen|betrügerisch*|abzocke|abgezockt|identitätsdiebstahl",
            "konto|karte|kreditkarte|account ~4 gehackt|gestohlen|missbraucht|geklaut|kompromittiert",
            "nicht ~2 autorisiert*|unberechtigt*|unbefugt*|unbekannte|unbekannten ~1 {abbuchung}",
            "unberechtigt*|unbefugt*|unbekannte|unbekannten|unautorisiert* ~1 {abbuchung}",
            "{abbuchung} ~4 nicht ~2 autorisiert|veranlasst|getätigt|genehmigt",
            "jemand ~4 meine|meinem|meiner|mein ~2 karte|konto|kreditkarte|daten ~4 benutzt|verwendet|missbraucht|bestellt",
        ],
    },
    Rule {
        name: "chargeback",
        kind: CHARGEBACK,
        score: 0.85,
        unless: "",
        patterns: &[
            "chargeback|chargebacks",
            "a|the|file|request|initiate|do|raise ~1 charge back",
            "dispute|disputing|disputed|reverse|reversing|contest ~4 {payment} ~4 bank|card|paypal|issuer|visa|mastercard|amex",
            "dispute|disputing ~2 the|this|these|that|my|your ~2 {payment}",
            "dispute ~3 with ~1 my|the ~1 bank|paypal|card",
            "bank ~4 dispute|reverse|refund ~3 {payment}|it|this|money",
            "rückbuchung*|zurückbuchen|zurückbuche|rücklastschrift*|käuferschutz|chargebacks",
            "buche|buchen|hole|holen ~4 zurück ~3 bank",
            "bank ~4 zurückholen|zurückbuchen|zurückfordern",
        ],
    },
    Rule {
        name: "regulator",
        kind: REGULATOR,
        score: 0.85,
        unless: "",
        patterns: &[
            "ombudsman|ombudsmann|ombudsstelle|ombudsperson",
            "trading standards",
            "better business bureau",
            "consumer ~1 protection|affairs|rights ~2 agency|bureau|authority|office|board|commission|organisation|organization",
            "attorney general",
            "data protection ~1 authority|commissioner|agency",
            "information commissioner",
            "financial conduct authority",
            "federal trade commission",
            "report ~2 you|your|this|company ~4 authorities|authority|regulator|regulators",
            "complain|complaint ~4 authorities|regulator|regulators|cfpb|ftc|fca|fcc|ofcom|ofgem|bafin",
            "cfpb|ftc|ofcom|ofgem",
        ],
    },
    Rule {
        name: "behoerde",
        kind: REGULATOR,
        score: 0.85,
        unless: "",
        patterns: &[
            "verbraucherzentrale|verbraucherschutz|verbraucherschützer*|bundesnetzagentur|bafin|schlichtungsstelle|\
             datenschutzbehörde|landesdatenschutz*|aufsichtsbehörde|gewerbeaufsicht|wettbewerbszentrale",
        ],
    },
    Rule {
        name: "regulator-named",
        kind: REGULATOR,
        score: 0.5,
        unless: "",
        patterns: &["regulator|regulators|bbb|gdpr|dsgvo", "consumer protection|affairs|rights"],
    },
];
