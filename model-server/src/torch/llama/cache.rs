//! Keys and values of all slots, with a place for every position.

use tch::{Device, Kind, Tensor};

use super::config::Config;
use crate::generate::Shape;

/// Keys and values of one layer, each `[slots, kv_heads, context, head_size]`.
pub(super) struct Held {
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
}

/// Keys and values of all layers.
pub(super) struct Cache(Vec<Held>);

impl Cache {
    pub(super) fn new(config: &Config, shape: &Shape, kind: Kind, device: Device) -> tch::Result<Self> {
        let sizes = [shape.slots, config.kv_heads, shape.context, config.head_size].map(|size| size as i64);
        // Numbers from the start: what is passed over is multiplied with 0.
        let places = || Tensor::f_zeros(sizes, (kind, device));
        let layers = (0..config.layers).map(|_| Ok(Held { keys: places()?, values: places()? }));
        Ok(Self(layers.collect::<tch::Result<_>>()?))
    }

    pub(super) fn layer(&mut self, number: usize) -> &mut Held {
        &mut self.0[number]
    }

    /// Makes all that a slot holds 0.
    pub(super) fn wipe(&self, slot: usize) -> tch::Result<()> {
        for Held { keys, values } in &self.0 {
            for held in [keys, values] {
                let _ = held.f_narrow(0, slot as i64, 1)?.f_zero_()?;
            }
        }
        Ok(())
    }
}

impl Held {
    /// Writes `[tokens, kv_heads, head_size]` to a place for each token.
    pub(super) fn write(
        &mut self,
        slots: &Tensor,
        positions: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> tch::Result<()> {
        let places = [Some(slots), None, Some(positions)];
        let _ = self.keys.f_index_put_(&places, keys, false)?;
        let _ = self.values.f_index_put_(&places, values, false)?;
        Ok(())
    }
}
