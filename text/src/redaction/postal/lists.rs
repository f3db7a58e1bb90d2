//! Words of addresses. Lower case.

use std::sync::LazyLock;

use crate::redaction::lexicon::Lexicon;

/// What kind of street a name is of, behind it.
const STREETS: &str = "street st str avenue ave av road rd drive dr lane ln court ct boulevard blvd place pl square sq terrace \
                       ter trail trl circle cir highway hwy parkway pkwy way walk close crescent cres gardens grove hill \
                       mews park rise row view wharf loop plaza plz crossing expressway freeway junction parade path \
                       ridge run turnpike alley promenade quay esplanade green heights meadow pike spur vale bridge \
                       extension extensions fort forge ford glen haven knoll landing manor mount orchard passage point \
                       shore spring springs station summit valley village ville vista union gateway track villas \
                       streets roads avenues squares parks courts drives lanes";

/// The same before the name.
const ROMANCE: &str = "rue avenue av boulevard bd allée chemin impasse quai cours route via viale corso piazza vicolo largo calle \
                       avenida avda paseo plaza carrer camino rua travessa praça estrada ul ulica aleja ruta strada vico \
                       place passage";

/// How names of streets end where the kind of street is a part of them.
const SUFFIXES: [&str; 34] = [
    "straße", "strasse", "str", "weg", "platz", "gasse", "allee", "ring", "damm", "ufer", "steig",
    "chaussee", "gatan", "vägen", "vagen", "gränd", "vej", "vejen", "gade", "veien", "vegen", "gata", "katu",
    "tie", "kuja", "straat", "laan", "plein", "gracht", "kade", "dreef", "stræde", "allé", "utca",
];

/// Words that no street's name begins with.
const STOP: &str = "the a an of to on in at for from by and or but is are was were be been i you we he she it they me my your \
                    our his her their this that these those with without not no so if when then than as days day weeks \
                    week months month years year hours hour minutes minute seconds times time percent items item more \
                    less other people of until till per each please can could would should will do does did have has had \
                    went paid waited took went get got page chapter step option size version level pieces boxes orders \
                    miles km kg pm am euro euros dollars usd eur der die das und in im am mit für von zu auf ist war sind \
                    tage tag wochen woche monate uhr stück seit bis nach el la los las y en con para por le les et dans";

/// States, provinces and territories as they are abbreviated: US, Canada, Australia.
const STATES: &str = "al ak az ar ca co ct de fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh nj nm ny nc nd oh ok \
                      or pa ri sc sd tn tx ut vt va wa wv wi wy dc aa ae ap pr ab bc mb nb nl ns nt nu on pe qc sk yt nsw qld \
                      vic tas act";

fn set(words: &'static str) -> Lexicon<()> {
    words.split_whitespace().map(|word| (word, ())).collect()
}

static STREET_SET: LazyLock<Lexicon<()>> = LazyLock::new(|| set(STREETS));
static ROMANCE_SET: LazyLock<Lexicon<()>> = LazyLock::new(|| set(ROMANCE));
static STOP_SET: LazyLock<Lexicon<()>> = LazyLock::new(|| set(STOP));
static STATE_SET: LazyLock<Lexicon<()>> = LazyLock::new(|| set(STATES));

pub(super) fn is_street(lower: &str) -> bool {
    STREET_SET.get(lower).is_some()
}

pub(super) fn is_romance_street(word: &str) -> bool {
    ROMANCE_SET.of(word).is_some()
}

/// Whether a word is a street's name by its end: `Hauptstraße`, `Storgatan`, or just `Straße`.
pub(super) fn is_street_suffix(lower: &str) -> bool {
    const ALONE: [&str; 10] =
        ["straße", "strasse", "str", "platz", "allee", "gasse", "damm", "ufer", "straat", "utca"];
    let Some(last) = lower.bytes().next_back().filter(|_| lower.len() >= 3) else { return false };
    SUFFIXES.iter().filter(|suffix| suffix.ends_with(char::from(last)) || !last.is_ascii()).any(|suffix| {
        lower.strip_suffix(suffix).is_some_and(|name| match name.chars().count() {
            0 => ALONE.contains(suffix),
            // "Ring", "hering", "during": short endings need a longer name before them.
            count => count >= if suffix.len() <= 4 && *suffix != "str" { 4 } else { 2 },
        })
    })
}

pub(super) fn is_stop_word(lower: &str) -> bool {
    STOP_SET.get(lower).is_some()
}

pub(super) fn is_state(word: &str) -> bool {
    STATE_SET.of(word).is_some()
}
