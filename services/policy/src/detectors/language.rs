//! Which language a text is in.
//!
//! whatlang goes by trigrams, which need some forty letters; a message to a help desk often has fewer.
//! Function words make up for it: "wo", "ist" and "mein" are German at any length. Where both agree the
//! answer is sure, where they do not the words win in a short text and the trigrams in a long one.

use switchboard_text::words;
use whatlang::{Lang, Script};

use super::Language;

/// How much of a text is looked at, in bytes: more tells no more.
const ENOUGH: usize = 1200;
/// From this many letters on trigrams can be relied on.
const LONG: usize = 60;
/// A text with fewer letters is in no language.
const FEWEST_LETTERS: usize = 2;

/// Function words, each of few of these languages.
const WORDS: [(Lang, &str); 12] = [
    (
        Lang::Eng,
        "the and you your is are was were have has had what when where why who how which this that these with from \
         for of to my me i it its be been not can could would should will please thanks hello there they them we our \
         do does did don't i'm i've about any an get need want help hi order refund",
    ),
    (
        Lang::Deu,
        "der die das und ist sind war ich du er wir ihr sie nicht mein meine meinen meiner ein eine einen einem einer \
         mit für von zu zum zur auf aus bei nach wie wo wann warum wer welche habe haben hat kann können möchte \
         bitte danke hallo noch schon auch wenn dass mir mich ihnen ihre kein keine bestellung paket wird werden",
    ),
    (
        Lang::Fra,
        "le la les des du un une et est sont je tu il elle nous vous ils mon ma mes votre vos ne pas que qui où quand \
         comment pourquoi avec pour dans sur ce cette ces j'ai c'est bonjour merci s'il commande",
    ),
    (
        Lang::Spa,
        "el la los las un una unos y es son yo tú usted nosotros mi mis su sus no que quién dónde cuándo cómo por qué \
         con para en del al está están tengo quiero hola gracias pedido puedo",
    ),
    (
        Lang::Ita,
        "il lo la gli le un una e è sono io tu lei noi mio mia miei suo non che chi dove quando come perché con per in \
         del della nel ho hai ha vorrei ciao grazie ordine posso",
    ),
    (
        Lang::Por,
        "o a os as um uma e é são eu você nós meu minha meus seu não que quem onde quando como por com para em do da \
         no na está estão tenho quero olá obrigado obrigada pedido posso",
    ),
    (
        Lang::Nld,
        "de het een en is zijn ik jij je u wij mijn uw niet wat wie waar wanneer hoe waarom met voor van naar op in bij \
         heb heeft kan kunnen graag bedankt hallo bestelling nog ook deze dit",
    ),
    (
        Lang::Pol,
        "i w z na do nie jest są ja ty mój moja moje co kto gdzie kiedy jak dlaczego dla od po czy mam chcę proszę \
         dziękuję cześć zamówienie się",
    ),
    (
        Lang::Tur,
        "bir ve bu ne nerede nasıl neden kim için ile mi mı var yok ben sen benim siparişim değil lütfen merhaba \
         teşekkürler çok daha istiyorum",
    ),
    (
        Lang::Rus,
        "где мой моя моё мои мне я не на и в что как когда почему заказ есть это вы вас хочу можно пожалуйста спасибо \
         здравствуйте у меня для с по ли или но если уже ещё",
    ),
    (
        Lang::Ukr,
        "де мій моя моє мої мені я не на і в що як коли чому замовлення є це ви вас хочу можна дякую у мене для з по чи \
         або але якщо вже ще",
    ),
    (
        Lang::Bul,
        "къде моят моята моето ми аз не на и в какво как кога защо поръчка поръчката е това вие искам може моля \
         благодаря имам за с по ли или но ако вече още",
    ),
];

/// Function words made ready.
#[derive(Debug)]
pub(super) struct Languages {
    words: std::collections::HashMap<&'static str, Vec<usize>>,
}

impl Languages {
    pub(super) fn new() -> Self {
        let mut words: std::collections::HashMap<_, Vec<usize>> = std::collections::HashMap::new();
        for (language, (_, list)) in WORDS.iter().enumerate() {
            for word in list.split_whitespace() {
                words.entry(word).or_default().push(language);
            }
        }
        Self { words }
    }

    /// The language of a text, by its begin.
    pub(super) fn of(&self, text: &str) -> Option<Language> {
        let mut end = text.len().min(ENOUGH);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        if letters < FEWEST_LETTERS {
            return None;
        }
        let guess = whatlang::detect(text);
        // Trigrams of few letters are worth less than they say.
        let worth = (letters as f32 / LONG as f32).min(1.0);
        let guessed = guess.as_ref().map(|guess| (guess.lang(), guess.confidence() as f32 * worth));
        // Most other scripts have few languages each, and whatlang knows them by their letters.
        if let Some(guess) = &guess
            && !matches!(guess.script(), Script::Latin | Script::Cyrillic)
        {
            return Some(Language { code: code(guess.lang()), confidence: guess.confidence() as f32 });
        }
        let (lang, confidence) = match (self.by_words(text), guessed) {
            (Some((lang, share)), Some((other, confidence))) if lang == other => {
                (lang, 1.0 - (1.0 - share) * (1.0 - confidence))
            }
            (Some((lang, share)), Some(_)) if letters < LONG => (lang, share),
            (Some((lang, share)), Some((_, confidence))) if share > confidence => (lang, share * 0.9),
            (Some((lang, share)), None) => (lang, share),
            (_, Some((lang, confidence))) => (lang, confidence * 0.9),
            (None, None) => return None,
        };
        Some(Language { code: code(lang), confidence: confidence.clamp(0.0, 1.0) })
    }

    /// The language with the most function words, and how sure they make it: a word that several languages
    /// share counts for each in part.
    fn by_words(&self, text: &str) -> Option<(Lang, f32)> {
        let lower = text.to_lowercase().replace('’', "'");
        let mut counts = [0.0f32; WORDS.len()];
        for word in words::words(&lower) {
            if let Some(languages) = self.words.get(word) {
                for &language in languages {
                    counts[language] += 1.0 / languages.len() as f32;
                }
            }
        }
        let best = (0..counts.len()).max_by(|&a, &b| counts[a].total_cmp(&counts[b]))?;
        let second = (0..counts.len()).filter(|&at| at != best).map(|at| counts[at]).fold(0.0, f32::max);
        let lead = counts[best] - second;
        // A word of its own makes two thirds sure, each further one takes as much of the doubt.
        (lead > 0.0).then(|| (WORDS[best].0, 1.0 - (1.0f32 / 3.0).powf(lead)))
    }
}

/// ISO 639-1 where there is one.
fn code(lang: Lang) -> &'static str {
    const CODES: [(&str, &str); 68] = [
        ("epo", "eo"),
        ("eng", "en"),
        ("rus", "ru"),
        ("cmn", "zh"),
        ("spa", "es"),
        ("por", "pt"),
        ("ita", "it"),
        ("ben", "bn"),
        ("fra", "fr"),
        ("deu", "de"),
        ("ukr", "uk"),
        ("kat", "ka"),
        ("ara", "ar"),
        ("hin", "hi"),
        ("jpn", "ja"),
        ("heb", "he"),
        ("yid", "yi"),
        ("pol", "pl"),
        ("amh", "am"),
        ("jav", "jv"),
        ("kor", "ko"),
        ("nob", "nb"),
        ("dan", "da"),
        ("swe", "sv"),
        ("fin", "fi"),
        ("tur", "tr"),
        ("nld", "nl"),
        ("hun", "hu"),
        ("ces", "cs"),
        ("ell", "el"),
        ("bul", "bg"),
        ("bel", "be"),
        ("mar", "mr"),
        ("kan", "kn"),
        ("ron", "ro"),
        ("slv", "sl"),
        ("hrv", "hr"),
        ("srp", "sr"),
        ("mkd", "mk"),
        ("lit", "lt"),
        ("lav", "lv"),
        ("est", "et"),
        ("tam", "ta"),
        ("vie", "vi"),
        ("urd", "ur"),
        ("tha", "th"),
        ("guj", "gu"),
        ("uzb", "uz"),
        ("pan", "pa"),
        ("aze", "az"),
        ("ind", "id"),
        ("tel", "te"),
        ("pes", "fa"),
        ("mal", "ml"),
        ("ori", "or"),
        ("mya", "my"),
        ("nep", "ne"),
        ("sin", "si"),
        ("khm", "km"),
        ("tuk", "tk"),
        ("aka", "ak"),
        ("zul", "zu"),
        ("sna", "sn"),
        ("afr", "af"),
        ("lat", "la"),
        ("slk", "sk"),
        ("cat", "ca"),
        ("tgl", "tl"),
    ];
    let long = lang.code();
    CODES.iter().find_map(|(three, two)| (*three == long).then_some(*two)).unwrap_or(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_messages_have_their_language() {
        let languages = Languages::new();
        for (text, code) in [
            ("Where is my parcel?", "en"),
            ("refund please", "en"),
            ("Wo ist mein Paket?", "de"),
            ("Ich möchte mit einem Menschen sprechen", "de"),
            ("Où est ma commande ?", "fr"),
            ("¿Dónde está mi pedido?", "es"),
            ("Dov'è il mio ordine?", "it"),
            ("Onde está o meu pedido?", "pt"),
            ("Waar is mijn bestelling?", "nl"),
            ("Gdzie jest moje zamówienie?", "pl"),
            ("Где мой заказ?", "ru"),
            ("我的包裹在哪里？", "zh"),
            ("荷物はどこですか", "ja"),
            ("내 소포는 어디에 있나요?", "ko"),
            ("איפה החבילה שלי?", "he"),
        ] {
            let found = languages.of(text);
            assert_eq!(found.map(|language| language.code), Some(code), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_few_letters_make_nobody_sure() {
        let languages = Languages::new();
        assert_eq!(languages.of("42!"), None);
        assert_eq!(languages.of(""), None);
        for text in ["ok", "PayPal", "W4923227 XL"] {
            assert!(languages.of(text).is_none_or(|language| language.confidence < 0.5), "{text}");
        }
        let long = "Ich habe vor drei Wochen eine Jacke bestellt, und sie ist immer noch nicht angekommen.";
        assert!(languages.of(long).is_some_and(|language| language.confidence > 0.9));
    }
}
