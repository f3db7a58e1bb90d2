//! From a classifier's numbers to labels.

/// A label of a text or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    /// Its place among the model's labels; of a span, that of its first token.
    pub(crate) index: usize,
    /// Its name; of a span without the mark of where it begins.
    pub(crate) name: String,
    /// Probability in [0, 1], or what the model gives; a span's is the mean over its tokens.
    pub(crate) score: f32,
    /// Characters from and up to; 0 and 0 for the whole text.
    pub(crate) span: (usize, usize),
}

/// Numbers that sum up to 1, in the proportions of their exponentials.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let parts: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = parts.iter().sum();
    parts.into_iter().map(|part| part / sum).collect()
}

/// The logistic function.
pub(crate) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// All labels of a text, the best first.
pub(crate) fn of_text(logits: &[f32], names: &[String], independent: bool, raw: bool) -> Vec<Label> {
    let scores = match (raw, independent) {
        (true, _) => logits.to_vec(),
        (false, true) => logits.iter().map(|&logit| sigmoid(logit)).collect(),
        (false, false) => softmax(logits),
    };
    let named = names.iter().zip(scores).enumerate();
    let mut labels: Vec<Label> = named
        .map(|(index, (name, score))| Label { index, name: name.clone(), score, span: (0, 0) })
        .collect();
    labels.sort_by(|a, b| b.score.total_cmp(&a.score));
    labels
}

/// The best label of each token that stands for characters. `logits` has a row of as many numbers as there
/// are names for each token; `spans` tells the characters.
pub(crate) fn of_tokens(
    logits: &[f32],
    names: &[String],
    spans: &[Option<(usize, usize)>],
    raw: bool,
) -> Vec<Label> {
    let rows = logits.chunks_exact(names.len().max(1)).zip(spans);
    let label = |(row, span): (&[f32], &Option<(usize, usize)>)| {
        let scores = if raw { row.to_vec() } else { softmax(row) };
        let (index, score) = scores.into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Label { index, name: names.get(index)?.clone(), score, span: (*span)? })
    };
    rows.filter_map(label).collect()
}

/// Joins tokens to spans: neighbours of one kind, unless the second begins a new one (`B-`). What is
/// outside (`O`) is left out.
///
/// # Source
/// The scheme IOB2: Tjong Kim Sang and Veenstra 1999; joined as the strategy `simple` of transformers'
/// token classification does.
pub(crate) fn join(tokens: Vec<Label>) -> Vec<Label> {
    let mut spans: Vec<(Label, f32, u32)> = Vec::new();
    let mut last: Option<String> = None;
    for token in tokens {
        let (begins, kind) = match token.name.split_once('-') {
            Some(("B", kind)) => (true, kind.to_owned()),
            Some(("I", kind)) => (false, kind.to_owned()),
            _ => (false, token.name.clone()),
        };
        if kind == "O" {
            last = None;
            continue;
        }
        match spans.last_mut() {
            Some((span, sum, count)) if !begins && last.as_ref() == Some(&kind) => {
                span.span.1 = token.span.1;
                *sum += token.score;
                *count += 1;
            }
            _ => spans.push((Label { name: kind.clone(), ..token.clone() }, token.score, 1)),
        }
        last = Some(kind);
    }
    spans.into_iter().map(|(span, sum, count)| Label { score: sum / count as f32, ..span }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn probabilities_sum_up_to_one_and_the_best_comes_first() {
        let labels = of_text(&[1.0, 3.0, 2.0], &names(&["a", "b", "c"]), false, false);
        let order: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        assert_eq!(order, ["b", "c", "a"]);
        assert!((labels.iter().map(|label| label.score).sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((labels[0].score - 0.665_241).abs() < 1e-5);
        let raw = of_text(&[1.0, 3.0, 2.0], &names(&["a", "b", "c"]), false, true);
        assert!((raw[0].score - 3.0).abs() < 1e-6);
        let independent = of_text(&[0.0, 100.0], &names(&["a", "b"]), true, false);
        assert_eq!((independent[0].score, independent[1].score), (1.0, 0.5));
    }

    #[test]
    fn large_numbers_overflow_nothing() {
        assert_eq!(softmax(&[1e30, 0.0]), [1.0, 0.0]);
        assert_eq!((sigmoid(-1e30), sigmoid(1e30)), (0.0, 1.0));
    }

    #[test]
    fn neighbours_of_one_kind_are_joined() {
        let label =
            |name: &str, score, from| Label { index: 0, name: name.into(), score, span: (from, from + 2) };
        let joined = join(vec![
            label("B-PER", 0.5, 0),
            label("I-PER", 1.0, 3),
            label("B-PER", 0.9, 6),
            label("O", 1.0, 9),
            label("I-PER", 0.8, 12),
            label("I-LOC", 0.7, 15),
            label("NUM", 0.6, 18),
            label("NUM", 0.4, 21),
        ]);
        let seen: Vec<_> = joined.iter().map(|span| (span.name.as_str(), span.span)).collect();
        assert_eq!(
            seen,
            [("PER", (0, 5)), ("PER", (6, 8)), ("PER", (12, 14)), ("LOC", (15, 17)), ("NUM", (18, 23))]
        );
        assert!((joined[0].score - 0.75).abs() < 1e-6 && (joined[4].score - 0.5).abs() < 1e-6);
    }

    #[test]
    fn tokens_without_characters_have_no_label() {
        let spans = [None, Some((0, 3)), None];
        let labels = of_tokens(&[9.0, 0.0, 0.0, 9.0, 9.0, 0.0], &names(&["O", "B-PER"]), &spans, false);
        assert_eq!(labels.len(), 1);
        assert_eq!((labels[0].name.as_str(), labels[0].span), ("B-PER", (0, 3)));
    }
}
