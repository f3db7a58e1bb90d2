//! Asking for a person, and complaining, English and German.
//!
//! A person has to be asked for: "my agent sold me this" and "can a person return it" only mention one, and
//! who spoke to somebody yesterday has done so.

use super::phrases::Rule;

pub(super) const HUMAN: &str = "human-requested";
pub(super) const COMPLAINT: &str = "complaint";

pub(super) const SETS: [(&str, &str); 10] = [
    // Who can only be a person of the company.
    (
        "staff",
        "human|humans|agent|agents|representative|representatives|rep|reps|operator|operators|advisor|\
      advisors|adviser|supervisor|supervisors|manager|managers|asisstant|assistant|assistants|associate|employee|\
      specialist|agnet|colleague",
    ),
    // Who could be anybody.
    ("anyone", "person|people|someone|somebody|anyone|anybody|individual|guy"),
    ("real", "real|live|actual|human|living|breathing|physical"),
    ("talk", "talk|speak|chat|talking|speaking|chatting|converse|discuss|tlak|speek|talkin"),
    ("reach", "contact|contacting|reach|reaching|call|calling|phone|message|messaging"),
    (
        "pass",
        "connect|transfer|forward|redirect|direct|udirect|escalate|switch|hand|pass|put|refer|link|\
      connected|transferred|forwarded|redirected|handed|escalated",
    ),
    ("want", "want|need|require|prefer|wanna|get|give|bring|send|demand|request|requesting|asking|find"),
    ("support", "service|support|care|assistance|sevrice|suport"),
    (
        "mitarbeiter",
        "mitarbeiter*|mensch|menschen|berater*|kundenberater*|sachbearbeiter*|ansprechpartner*|\
      agenten|kollegen|kollegin|vorgesetzte*|chef|teamleiter*|person",
    ),
    (
        "sprechen",
        "sprechen|reden|telefonieren|chatten|verbinden|verbunden|schreiben|weiterleiten|spreche|rede",
    ),
];

/// Past talks.
const PAST: &str = "was|were|after|yesterday|earlier|didnt|had|when|without";
/// A talk that is not wanted; no kind of finding, it takes away those that overlap.
pub(super) const REFUSED: &str = "person-refused";
/// The rules that a refusal takes back; who refuses a machine does not refuse a person.
pub(super) const REFUSABLE: [&str; 3] = ["talk-to-staff", "talk-to-someone", "talk-to-support"];

pub(super) const RULES: [Rule; 16] = [
    Rule {
        name: "refused",
        kind: REFUSED,
        score: 1.0,
        unless: "",
        patterns: &["dont|not|never|no ~1 want|need|wish|have|like|wanna|going ~1 to|for ~1 {talk}|{reach}"],
    },
    Rule {
        name: "talk-to-staff",
        kind: HUMAN,
        score: 0.9,
        unless: PAST,
        patterns: &["{talk} ~1 to|with|2|wiht ~4 {staff}", "{talk} ~1 to|with ~2 {real} ~1 {anyone}"],
    },
    Rule {
        name: "talk-to-someone",
        kind: HUMAN,
        score: 0.75,
        unless: PAST,
        patterns: &["{talk} ~1 to|with ~2 {anyone}", "{reach} ~2 somebody|someone|person"],
    },
    Rule {
        name: "pass-on",
        kind: HUMAN,
        score: 0.9,
        unless: "was|were|after|yesterday|dont|not|when|being",
        patterns: &[
            "{pass} ~3 me|us|this|call|chat|through|over|to|with ~4 {staff}",
            "{pass} ~2 me|us|call|chat ~3 {anyone}",
        ],
    },
    Rule {
        name: "want-staff",
        kind: HUMAN,
        score: 0.8,
        unless: "dont|not|no",
        patterns: &[
            "{want} ~2 a|an|the|any|your|to|some ~2 human|agent|representative|operator|supervisor|rep|manager",
            "{want} ~3 {real} {anyone}|{staff}",
            "id|would|i like|love ~1 a|an ~1 human|agent|representative|operator|supervisor",
            "can|could|may|let i|me ~1 have|get|see ~2 human|agent|representative|operator|supervisor|manager",
            "is|isnt|are|arent there ~3 human|supervisor|manager|representative|operator",
        ],
    },
    Rule {
        name: "real-person",
        kind: HUMAN,
        score: 0.7,
        unless: "you|youre|not|dont|are",
        patterns: &[
            "{real} person|human|agent|representative|operator|being|advisor|people ~2 please|now|instead",
            "{real} person|human|agent|representative|operator|being|advisor|people $",
        ],
    },
    Rule {
        name: "reach-staff",
        kind: HUMAN,
        score: 0.8,
        unless: "was|were|dont|not|after",
        patterns: &["{reach} ~2 human|agent|representative|operator|supervisor|agents|humans|assistant"],
    },
    Rule {
        name: "staff-alone",
        kind: HUMAN,
        score: 0.9,
        unless: "",
        patterns: &[
            "^ human|agent|representative|operator|supervisor|agents|humans ~1 please|pls|now|asap $",
            "^ human|agent|representative|operator|supervisor $",
            "^ live|real|human agent|person|chat|representative|support $",
        ],
    },
    Rule {
        name: "talk-to-support",
        kind: HUMAN,
        score: 0.5,
        unless: PAST,
        patterns: &["{talk} ~1 to|with ~3 {support}", "{reach} ~2 customer|client {support}"],
    },
    Rule {
        name: "no-machine",
        kind: HUMAN,
        score: 0.6,
        unless: "",
        patterns: &[
            "not|no|stop|dont|hate|sick|tired|enough|cant ~5 bot|bots|robot|chatbot|machine|computer",
            "not|dont ~3 {talk}|deal|dealing ~2 ai",
        ],
    },
    Rule {
        name: "mit-mensch-sprechen",
        kind: HUMAN,
        score: 0.9,
        unless: "nicht|habe|hatte|nachdem",
        patterns: &[
            "mit ~3 {mitarbeiter}|jemand|jemandem|jemanden ~4 {sprechen}",
            "{sprechen} ~2 mit ~3 {mitarbeiter}|jemand|jemandem|jemanden",
            "{mitarbeiter} ~2 sprechen|reden",
            "verbinde|verbinden|verbindet|weiterleiten|leiten ~3 mich|uns ~2 mit|an|zu ~3 {mitarbeiter}|jemand|jemandem",
        ],
    },
    Rule {
        name: "mensch-gewuenscht",
        kind: HUMAN,
        score: 0.8,
        unless: "kein|keine|keinen|nicht",
        patterns: &[
            "will|möchte|brauche|hätte|verlange ~3 mitarbeiter*|menschen|berater*|ansprechpartner*",
            "echte|echten|echter|richtigen|richtiger|menschlichen|menschlicher ~1 {mitarbeiter}",
            "^ mitarbeiter|mensch|berater|kundenberater|ansprechpartner ~1 bitte|sprechen|jetzt|sofort $",
            "^ mitarbeiter|mensch|berater|kundenberater $",
        ],
    },
    Rule {
        name: "keine-maschine",
        kind: HUMAN,
        score: 0.6,
        unless: "",
        patterns: &["nicht|kein|keine|keinen|keinem ~4 bot|chatbot|roboter|maschine|computer|ki"],
    },
    Rule {
        name: "complaint",
        kind: COMPLAINT,
        score: 0.85,
        unless: "",
        patterns: &[
            "file|lodge|make|submit|register|raise|open|start|place|log|filing|lodging|making|submitting ~4 \
             complaint|complaints|compliant|complain|reclamation|grievance",
            "formal|official|consumer|customer ~1 complaint|complaints|reclamation|grievance|claim",
            "file|lodge|make|filing|lodging|making ~4 claim ~2 against",
            "complain|complaining ~2 about|to|against",
            "beschwerde|beschwerden ~3 einreichen|einlegen|stellen|machen|abgeben|loswerden",
            "beschwere|beschweren ~3 mich|über|bei",
            "mich ~4 beschweren",
        ],
    },
    Rule {
        name: "complaint-named",
        kind: COMPLAINT,
        score: 0.6,
        unless: "no|without|kein|keine",
        patterns: &["complaint|complaints|beschwerde|beschwerden|grievance"],
    },
    Rule {
        name: "unhappy",
        kind: COMPLAINT,
        score: 0.5,
        unless: "not|never|nicht",
        patterns: &[
            "unhappy|dissatisfied|disappointed|unsatisfied ~3 with|about|by",
            "unzufrieden|enttäuscht ~3 mit|von|über",
            "mit|von ~4 unzufrieden|enttäuscht",
        ],
    },
];
