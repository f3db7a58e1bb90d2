//! What a node tells others of its models, through the registry where there is one: routers and
//! balancers know what it has, how fast it is, and how much waits there, before they ask it anything.

use std::{sync::Arc, time::Duration};

use switchboard_mesh::{Context, bootstrap::Models, discovery::AboutModel};

use crate::{model::Model, registry::Registry, repository::Task};

/// How often what is told is looked at again. Balancing does not rest on it: it measures by itself.
const EVERY: Duration = Duration::from_secs(5);
/// A backlog is told anew when it changed by more than this, in seconds: every change is a write to the
/// registry, and a read for all who watch it.
const NOTICED: f64 = 0.05;
/// Likewise a time of the profile, as a part of it.
const DRIFTED: f64 = 0.2;

/// Tells of the models as they come, go and change, until the node stops.
pub(crate) fn publish(registry: &Arc<Registry>, ctx: &Context) {
    // Models are freed when nobody serves them any more, told of or not.
    let registry = Arc::downgrade(registry);
    let (models, stop) = (ctx.models.clone(), ctx.stop.clone());
    ctx.tasks.spawn(async move {
        let mut timer = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            let Some(registry) = registry.upgrade() else { return };
            let now: Models =
                registry.list().iter().map(|model| (model.card.name.clone(), about(model))).collect();
            models.send_if_modified(|told| {
                let news = differs(told, &now);
                if news {
                    *told = now;
                }
                news
            });
        }
    });
}

fn about(model: &Model) -> AboutModel {
    let card = &model.card;
    let (profile, backlog) = model.profile();
    let dimensions = if matches!(card.task, Task::Embed { .. }) { card.dimensions } else { 0 };
    AboutModel {
        task: card.task.name().to_owned(),
        fingerprint: card.fingerprint.clone(),
        dimensions: dimensions as u32,
        max_tokens: card.max_tokens as u32,
        instances: card.layout.instances as u32,
        profile: profile.iter().map(|cell| (cell.batch as u32, cell.tokens as u32, cell.seconds)).collect(),
        backlog: backlog.as_secs_f64(),
    }
}

fn differs(told: &Models, now: &Models) -> bool {
    let same = |(old, new): (&AboutModel, &AboutModel)| {
        let shape = |model: &AboutModel| {
            let cells: Vec<_> = model.profile.iter().map(|(batch, tokens, _)| (*batch, *tokens)).collect();
            (model.fingerprint.clone(), model.instances, cells)
        };
        let drifted =
            |((.., old), (.., new)): (&(u32, u32, f64), &(u32, u32, f64))| (old - new).abs() > old * DRIFTED;
        shape(old) == shape(new)
            && (old.backlog - new.backlog).abs() <= NOTICED
            && !old.profile.iter().zip(&new.profile).any(drifted)
    };
    !told.keys().eq(now.keys()) || !told.values().zip(now.values()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(seconds: f64, backlog: f64) -> Models {
        let model = AboutModel { profile: vec![(1, 8, seconds)], backlog, ..AboutModel::default() };
        Models::from([("minilm".to_owned(), model)])
    }

    #[test]
    fn noise_is_no_news() {
        let told = models(0.010, 0.0);
        assert!(!differs(&told, &models(0.011, 0.01)));
        for news in [models(0.013, 0.0), models(0.010, 0.2), Models::new()] {
            assert!(differs(&told, &news), "{news:?}");
        }
    }
}
