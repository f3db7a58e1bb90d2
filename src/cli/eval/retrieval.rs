//! `switchboard eval retrieval`.

use anyhow::Result;
use clap::Args;
use serde_json::{Map, json};
use switchboard_proto::knowledge::v1::SearchMode;

use super::{
    DataArgs, data,
    data::Question,
    statistics::{self, METRICS, Row},
    store::{self, Store},
};
use crate::cli::{Global, ingest, show};

/// Flags of `eval retrieval`.
#[derive(Args)]
pub(crate) struct RetrievalArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// How deep a search looks: recall is reported to 10, reciprocal ranks beyond this count as 0.
const DEPTH: u32 = 100;
const MODES: [(&str, SearchMode); 3] =
    [("bm25", SearchMode::Lexical), ("dense", SearchMode::Dense), ("fused", SearchMode::Unspecified)];

/// For each mode, the figures of each question.
type Measured = [Vec<Row>; MODES.len()];

pub(super) async fn retrieval(global: &Global, RetrievalArgs { data: args }: RetrievalArgs) -> Result<()> {
    let documents = store::documents(&args.docs).await?;
    let questions = data::questions(&args.queries, args.first_turns)?;
    let store = Store::open(global, &[]).await?;
    let measured = async {
        store.fill(documents).await?;
        measure(&store, &questions).await
    };
    let measured = measured.await;
    store.client.close().await;
    report(&measured?, questions.len(), args.json);
    Ok(())
}

async fn measure(store: &Store, questions: &[Question]) -> Result<Measured> {
    let bar = ingest::progress(questions.len());
    let mut measured = Measured::default();
    for question in questions {
        let forms = store.forms(question).await?;
        for ((_, mode), rows) in MODES.into_iter().zip(&mut measured) {
            let hits = store.search(&forms, mode, DEPTH).await?;
            rows.push(statistics::score(statistics::right(&hits, question).into_iter()));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(measured)
}

fn report(measured: &Measured, questions: usize, as_json: bool) {
    let named = || MODES.iter().map(|(name, _)| *name).zip(measured);
    if as_json {
        let mut object = Map::from_iter([("questions".to_owned(), json!(questions))]);
        object.extend(named().map(|(name, rows)| (name.to_owned(), statistics::object(rows))));
        return show::line(&serde_json::Value::Object(object).to_string());
    }
    let header: Vec<&str> = [&[""][..], &METRICS].concat();
    let lines: Vec<_> = named().flat_map(|(name, rows)| statistics::lines(name, rows)).collect();
    show::line(&format!("{questions} questions; below each figure its 95 % interval"));
    show::line(&show::table(&header, &lines));
}
