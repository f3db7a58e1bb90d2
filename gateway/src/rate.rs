//! The section `[gateway.rate]`: how often a tenant may call, by class; and who looks after it.
//!
//! Every class of a tenant has a rate of its own, so that what nobody waits for cannot use up what a
//! customer on the phone needs. Gateways that share a Redis share the rates; without one, or while it is
//! away, each has them for itself.

use std::{collections::BTreeMap, time::Duration};

use mesh::{
    Class, Tenant,
    config::{Invalid, within},
    rate::{By, Limiter, Rate},
    redis::Redis,
};
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;

use crate::{error::Refused, metrics};

/// Begins the name of every key in Redis.
const PREFIX: &str = "switchboard:rate";

/// How often a tenant may call.
///
/// The defaults keep a caller that runs wild from the others; what a tenant has paid for is to be set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Calls of class voice, of each tenant.
    pub voice: Allowance,
    /// Calls of class chat, which is also that of calls that name none.
    pub chat: Allowance,
    /// Calls of class batch.
    pub batch: Allowance,
    /// By tenant, what holds in place of the rates above.
    pub tenants: BTreeMap<String, Own>,
}

/// A rate.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allowance {
    /// Calls a second in the long run, from 0.001 to 1,000,000; 0 sets no limit.
    pub per_second: f64,
    /// Calls that may come at once; 0 takes as many as come in a second, and 1 at least.
    pub burst: u32,
}

/// A tenant's own rates. A class that is left out has the general one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Own {
    /// Calls of class voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<Allowance>,
    /// Calls of class chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Allowance>,
    /// Calls of class batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Allowance>,
}

impl Default for Config {
    fn default() -> Self {
        // About what one gateway can do on a few cores: a tenant alone is hardly ever refused, and
        // work in batches leaves room.
        let some = |per_second| Allowance { per_second, burst: 0 };
        Self { voice: some(500.0), chat: some(500.0), batch: some(100.0), tenants: BTreeMap::new() }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Invalid`], which names the key and what is allowed.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let general = [("voice", self.voice), ("chat", self.chat), ("batch", self.batch)];
        for (class, allowance) in general {
            allowance.check(&format!("gateway.rate.{class}"))?;
        }
        for (tenant, own) in &self.tenants {
            let table = format!("gateway.rate.tenants.{tenant}");
            Tenant::try_new(tenant).map_err(|allowed| Invalid::new(&table, tenant, allowed))?;
            for (class, allowance) in [("voice", own.voice), ("chat", own.chat), ("batch", own.batch)] {
                allowance.map_or(Ok(()), |allowance| allowance.check(&format!("{table}.{class}")))?;
            }
        }
        Ok(())
    }

    /// The rate of a tenant's calls; none where there is no limit.
    fn of(&self, tenant: &Tenant, class: Class) -> Option<Rate> {
        let own = self.tenants.get(tenant.as_str()).copied().unwrap_or_default();
        let allowance = match class {
            Class::Voice => own.voice.unwrap_or(self.voice),
            Class::Chat => own.chat.unwrap_or(self.chat),
            Class::Batch => own.batch.unwrap_or(self.batch),
        };
        allowance.rate()
    }
}

impl Allowance {
    fn check(self, key: &str) -> Result<(), Invalid> {
        let Self { per_second, burst } = self;
        if per_second != 0.0 && !(0.001..=1_000_000.0).contains(&per_second) {
            let allowed = "0 for no limit, or from 0.001 to 1000000";
            return Err(Invalid::new(format!("{key}.per_second"), per_second, allowed));
        }
        if per_second == 0.0 && burst != 0 {
            // A tenant whose rate was to be raised would have none at all.
            let allowed = "a rate where there is a burst";
            return Err(Invalid::new(format!("{key}.per_second"), per_second, allowed));
        }
        within(&format!("{key}.burst"), burst, 0..=1_000_000)
    }

    fn rate(self) -> Option<Rate> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        let burst = match self.burst {
            0 => self.per_second.ceil().max(1.0) as u32,
            burst => burst,
        };
        (self.per_second > 0.0).then_some(Rate { per_second: self.per_second, burst })
    }
}

/// The rates of all tenants.
pub(crate) struct Rates {
    config: Config,
    limiter: Limiter,
}

impl Rates {
    pub(crate) fn new(config: Config, redis: Option<Redis>) -> Self {
        Self { config, limiter: Limiter::new(redis, PREFIX) }
    }

    /// Counts a call of `tenant`. Waits for Redis no longer than [`mesh::rate::WITHIN`].
    ///
    /// # Errors
    /// [`Refused::Rate`] when it comes before its time.
    pub(crate) async fn admit(&self, tenant: &Tenant, class: Class) -> Result<(), Refused> {
        let Some(rate) = self.config.of(tenant, class) else { return Ok(()) };
        let verdict = self.limiter.admit(&format!("{tenant}:{}", class.as_str()), rate).await;
        let by = match verdict.by {
            By::Redis => "redis",
            By::Local => "local",
        };
        metrics::rated(class, by, if verdict.wait.is_none() { "admitted" } else { "refused" });
        match verdict.wait {
            None => Ok(()),
            Some(after) => Err(Refused::Rate { class: class.as_str(), after: after.max(SOONEST) }),
        }
    }
}

/// The least that a caller is told to wait: less is no help to anybody who has to send again.
const SOONEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> Tenant {
        Tenant::try_new("acme").unwrap()
    }

    fn parse(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_override_holds_for_its_tenant_and_class_alone() {
        let config = parse(
            r#"{"chat": {"per_second": 5}, "tenants": {"acme": {"chat": {"per_second": 0.5, "burst": 3}}}}"#,
        );
        config.check().unwrap();
        let globex = Tenant::try_new("globex").unwrap();
        assert_eq!(config.of(&acme(), Class::Chat), Some(Rate { per_second: 0.5, burst: 3 }));
        assert_eq!(config.of(&globex, Class::Chat), Some(Rate { per_second: 5.0, burst: 5 }));
        let voice = Config::default().of(&acme(), Class::Voice);
        assert_eq!((config.of(&acme(), Class::Voice), voice.is_some()), (voice, true));
    }

    #[test]
    fn zero_sets_no_limit_and_a_burst_is_one_at_least() {
        let config = parse(r#"{"chat": {"per_second": 0}, "batch": {"per_second": 0.25}}"#);
        assert_eq!(config.of(&acme(), Class::Chat), None);
        assert_eq!(config.of(&acme(), Class::Batch), Some(Rate { per_second: 0.25, burst: 1 }));
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named_with_its_tenant() {
        let cases = [
            (r#"{"chat": {"per_second": -1}}"#, "gateway.rate.chat.per_second"),
            (r#"{"voice": {"per_second": 1e9}}"#, "gateway.rate.voice.per_second"),
            (r#"{"batch": {"per_second": 1, "burst": 2000000}}"#, "gateway.rate.batch.burst"),
            (r#"{"batch": {"burst": 2}}"#, "gateway.rate.batch.per_second"),
            (r#"{"tenants": {"Acme": {}}}"#, "gateway.rate.tenants.Acme"),
            (
                r#"{"tenants": {"acme": {"voice": {"per_second": 1e-9}}}}"#,
                "gateway.rate.tenants.acme.voice.per_second",
            ),
        ];
        for (text, key) in cases {
            assert_eq!(parse(text).check().unwrap_err().key, key);
        }
        assert!(serde_json::from_str::<Config>(r#"{"tenants": {"acme": {"mail": {}}}}"#).is_err());
        let not_a_number = Allowance { per_second: f64::NAN, burst: 0 };
        assert!(Config { chat: not_a_number, ..Config::default() }.check().is_err());
    }
}
