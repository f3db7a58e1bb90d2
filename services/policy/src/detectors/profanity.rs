//! Foul words, English and German, whole words alone: Scunthorpe is a town.
//!
//! Insults at somebody score higher than oaths about something; what is only rude is left out.

use super::phrases::Rule;

pub(super) const PROFANITY: &str = "profanity";

pub(super) const RULES: [Rule; 4] = [
    Rule {
        name: "insult",
        kind: PROFANITY,
        score: 0.95,
        unless: "",
        patterns: &[
            "asshole|assholes|arsehole|arseholes|bitch|bitches|bastard|bastards|cunt|cunts|motherfucker*|dickhead*|\
             wanker|wankers|twat|twats|prick|pricks|douchebag*|cocksucker*|scumbag*|slut|sluts|whore|whores|retard|\
             retards|moron|morons|shithead*|dumbass*|jackass*|fuckwit*|fucktard*",
            "fuck|screw you|u|off|yourself|yourselves|ya|them",
            "stfu|gtfo|kys",
            "son of a bitch",
            "piece|pieces|pile of ~2 shit|crap|garbage",
            "you|youre|ur|u ~3 idiot|idiots|imbecile|imbeciles|stupid|clown|clowns",
        ],
    },
    Rule {
        name: "oath",
        kind: PROFANITY,
        score: 0.8,
        unless: "",
        patterns: &[
            "fuck|fucks|fucked|fucker|fuckers|fucking|fuckin|fkn|fcking|fuk|fck|effing|shit|shits|shitty|bullshit|\
             horseshit|shite|goddamn|goddamned|wtf|bollocks",
            "what the hell|heck|fck",
        ],
    },
    Rule {
        name: "mild-oath",
        kind: PROFANITY,
        score: 0.5,
        unless: "",
        patterns: &[
            "damn|damned|dammit|crap|crappy|bloody|hell|pissed|sucks|freaking|frigging|verdammt|verdammte*|mist",
        ],
    },
    Rule {
        name: "beschimpfung",
        kind: PROFANITY,
        score: 0.9,
        unless: "",
        patterns: &[
            "arschloch|arschlöcher|arsch|wichser*|hurensohn|hurensöhne|fotze|fotzen|schlampe|schlampen|missgeburt|\
             drecksau|drecksack|drecksladen|saftladen|mistkerl|vollidiot*|idioten|idiot|schwachkopf|vollpfosten|\
             scheiße|scheisse|scheiß|scheiss|beschissen*|verfickt*|fick|ficken|fickt|kacke|verpiss|verpisst|spast*",
        ],
    },
];

/// Foul words with letters masked, which are no words any more; in lower case, as they stand in the text.
pub(super) const MASKED: [&str; 18] = [
    "f*ck", "f**k", "f***", "f*k", "fu*k", "fuc*", "f@ck", "f#ck", "sh*t", "s**t", "sh!t", "b*tch", "b**ch",
    "a**hole", "a*shole", "c*nt", "sch**ß", "sch***",
];
