//! `switchboard eval rerank`.

mod fitting;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use fitting::Fitted;
use serde_json::json;
use switchboard_proto::{
    knowledge::v1::SearchMode,
    reranking::v1::{Method, RerankResponse, reranking_service_client::RerankingServiceClient},
};
use switchboard_reranking::features;
use switchboard_text::context;

use super::{
    DataArgs, data,
    data::Question,
    statistics::{self, METRICS, Right, Row},
    store::{self, LIMIT, Store},
};
use crate::{
    cli::{Global, client::explain, ingest, show},
    roles::Role,
};

/// Flags of `eval rerank`.
#[derive(Args)]
pub(crate) struct RerankArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Fit the weights of `[reranking.weights]` to these questions, and tell how they do on questions
    /// about documents that they were not fitted on
    #[arg(long)]
    fit: bool,
}

/// What became of one question.
struct Measured {
    /// What is right about each candidate, in the search's order.
    right: Vec<Right>,
    /// The same in the order that a turn makes of the service's.
    reranked: Vec<Right>,
    method: Method,
    model: String,
    took: Duration,
    /// What is known of the candidates.
    features: Vec<features::Row>,
}

impl Measured {
    /// What ranked: the model's name, or what else.
    fn by(&self) -> &str {
        if self.method == Method::Model { &self.model } else { "what is known of the candidates" }
    }

    /// The figures of the search's order.
    fn fused(&self) -> Row {
        statistics::score(self.right.iter().copied())
    }

    /// The figures of the turn's order.
    fn reranked(&self) -> Row {
        statistics::score(self.reranked.iter().copied())
    }
}

pub(super) async fn rerank(global: &Global, RerankArgs { data: args, fit }: RerankArgs) -> Result<()> {
    let documents = store::documents(&args.docs).await?;
    let questions = data::questions(&args.queries, args.first_turns)?;
    let store = Store::open(global, &[Role::Reranking]).await?;
    let measured = async {
        store.fill(documents).await?;
        measure(&store, &questions).await
    };
    let measured = measured.await;
    store.client.close().await;
    let measured = measured?;
    let fitted = if fit { Some(Fitted::of(&questions, &measured)?) } else { None };
    report(&measured, fitted.as_ref(), args.json)
}

async fn measure(store: &Store, questions: &[Question]) -> Result<Vec<Measured>> {
    let bar = ingest::progress(questions.len());
    let mut measured = Vec::with_capacity(questions.len());
    for question in questions {
        measured.push(ask(store, question).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(measured)
}

/// Searches and reranks as a turn would, with time for every candidate.
async fn ask(store: &Store, question: &Question) -> Result<Measured> {
    let turn = &store.config.conversation;
    let forms = store.forms(question).await?;
    let hits =
        store.search(&forms, SearchMode::Unspecified, turn.rerank_candidates.max(turn.passages)).await?;
    let right = statistics::right(&hits, question);
    let query = context::resolve(&question.text, &question.history);
    let request = switchboard_conversation::rerank_request(&query, "", &hits);
    let features = features::of(&query, "", &request.candidates);
    let began = Instant::now();
    let reply = match hits.is_empty() {
        true => RerankResponse::default(),
        false => {
            let mut service = RerankingServiceClient::new(store.client.channel(Role::Reranking));
            let request = store.client.request(request, LIMIT)?;
            service.rerank(request).await.map_err(|status| explain(&status))?.into_inner()
        }
    };
    let took = began.elapsed();
    let method = reply.method();
    let reranked = statistics::right(&switchboard_conversation::reranked(hits, &reply.ranking), question);
    Ok(Measured { right, reranked, method, model: reply.model, took, features })
}

fn report(measured: &[Measured], fitted: Option<&Fitted>, as_json: bool) -> Result<()> {
    let fused: Vec<Row> = measured.iter().map(Measured::fused).collect();
    let reranked: Vec<Row> = measured.iter().map(Measured::reranked).collect();
    let change = statistics::change(&fused, &reranked);
    let ranked = measured.iter().filter(|one| matches!(one.method, Method::Model | Method::Features));
    let by: BTreeSet<&str> = ranked.map(Measured::by).collect();
    let by = Vec::from_iter(by).join(", ");
    let mut times: Vec<Duration> = measured.iter().map(|one| one.took).collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3;
    if as_json {
        let mut object = json!({
            "questions": measured.len(),
            "by": by,
            "median_ms": median,
            "fused": statistics::object(&fused),
            "reranked": statistics::object(&reranked),
            "change": statistics::object(&change),
        });
        if let Some(fitted) = fitted {
            object["fitted"] = fitted.object();
        }
        show::line(&object.to_string());
        return Ok(());
    }
    let header: Vec<&str> = [&[""][..], &METRICS].concat();
    let mut lines = Vec::from(statistics::lines("fused", &fused));
    if by.is_empty() {
        show::line(&format!("{} questions; no model ranks, and reranking.features is off", measured.len()));
    } else {
        show::line(&format!(
            "{} questions, reranked by {by} in {median:.2} ms (median); below each figure its 95 % interval",
            measured.len()
        ));
        lines.extend(statistics::lines("reranked", &reranked));
        lines.extend(statistics::change_lines("change", &change));
    }
    show::line(&show::table(&header, &lines));
    if let Some(fitted) = fitted {
        show::line(&fitted.for_people()?);
    }
    Ok(())
}
