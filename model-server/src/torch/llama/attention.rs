//! Who attends to what in a step: a plan, made once, by which every layer attends.
//!
//! Queries that share a head of keys and values are taken for further rows of that head: so nothing is repeated
//! for them. Rows of a single token whose slots lie side by side are computed together, over keys and values
//! as they lie in the cache; a row of several tokens is computed by itself, some tokens at a time.

use tch::{Device, Kind, Tensor};

use super::{cache::Held, config::Config, integers};
use crate::generate::Feed;

/// Queries that are computed together in a row of several tokens, those that share a head included. It bounds
/// the mask, which has a place for each of them and each key.
const QUERIES: usize = 1024;

/// A step's tokens, one row behind the other: rows of single tokens first, in order of their slots.
pub(super) struct Plan {
    /// `[tokens]` each.
    pub(super) ids: Tensor,
    pub(super) slots: Tensor,
    pub(super) positions: Tensor,
    /// Which token is each row's last, `[rows]`, in the step's own order of rows.
    pub(super) last: Tensor,
    parts: Vec<Part>,
}

/// Queries that attend together.
struct Part {
    /// The first token, and how many.
    from: i64,
    tokens: i64,
    /// The first slot, and how many. With several slots, each has one of the tokens.
    slot: i64,
    slots: i64,
    /// Keys that any of them attends to, from the first position on.
    keys: i64,
    /// Which of these each does: `[slots, 1, 1, keys]` or `[group * tokens, keys]`; absent where it is all.
    mask: Option<Tensor>,
}

impl Plan {
    pub(super) fn new(rows: &[Feed<'_>], config: &Config, device: Device) -> tch::Result<Self> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| (rows[row].tokens.len() > 1, rows[row].slot));
        let (mut ids, mut slots, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = vec![0; rows.len()];
        for &row in &order {
            let Feed { slot, past, tokens } = rows[row];
            ids.extend(tokens.iter().map(|&id| i64::from(id)));
            slots.extend(tokens.iter().map(|_| slot as i64));
            positions.extend((past as i64..).take(tokens.len()));
            last[row] = ids.len() as i64 - 1;
        }
        let singles = order.iter().take_while(|&&row| rows[row].tokens.len() == 1).count();
        let mut parts = Vec::new();
        let mut from = 0;
        for run in order[..singles].chunk_by(|&a, &b| rows[a].slot + 1 == rows[b].slot) {
            let pasts: Vec<i64> = run.iter().map(|&row| rows[row].past as i64).collect();
            parts.push(side_by_side(from, rows[run[0]].slot as i64, &pasts, device)?);
            from += run.len() as i64;
        }
        for &row in &order[singles..] {
            let at_once = QUERIES.div_ceil(config.group());
            let mut past = rows[row].past as i64;
            for tokens in rows[row].tokens.chunks(at_once) {
                let tokens = tokens.len() as i64;
                parts.push(one_row(from, rows[row].slot as i64, past, tokens, config, device)?);
                (from, past) = (from + tokens, past + tokens);
            }
        }
        Ok(Self {
            ids: integers(&ids, device)?,
            slots: integers(&slots, device)?,
            positions: integers(&positions, device)?,
            last: integers(&last, device)?,
            parts,
        })
    }
}

/// A token each of slots side by side.
fn side_by_side(from: i64, slot: i64, pasts: &[i64], device: Device) -> tch::Result<Part> {
    let keys = pasts.iter().max().map_or(1, |past| past + 1);
    let slots = pasts.len() as i64;
    let mask = match pasts.iter().all(|past| past + 1 == keys) {
        true => None,
        false => {
            let positions = Tensor::f_arange(keys, (Kind::Int64, device))?;
            let own = integers(pasts, device)?.f_view([slots, 1, 1, 1])?;
            Some(positions.f_le_tensor(&own)?)
        }
    };
    Ok(Part { from, tokens: slots, slot, slots, keys, mask })
}

/// Some tokens of one row, after `past`.
fn one_row(
    from: i64,
    slot: i64,
    past: i64,
    tokens: i64,
    config: &Config,
    device: Device,
) -> tch::Result<Part> {
    let keys = past + tokens;
    let mask = match tokens {
        1 => None,
        _ => {
            let positions = Tensor::f_arange(keys, (Kind::Int64, device))?;
            let own = Tensor::f_arange_start(past, keys, (Kind::Int64, device))?.f_unsqueeze(1)?;
            Some(positions.f_le_tensor(&own)?.f_repeat([config.group() as i64, 1])?)
        }
    };
    Ok(Part { from, tokens, slot, slots: 1, keys, mask })
}

/// What the queries `[tokens, heads, head_size]` get of the values that they attend to:
/// `[tokens, heads * head_size]`. The step's own keys and values are in the cache already.
pub(super) fn attend(queries: &Tensor, held: &Held, plan: &Plan, config: &Config) -> tch::Result<Tensor> {
    let [heads, kv_heads, size] =
        [config.heads, config.kv_heads, config.head_size].map(|number| number as i64);
    let group = heads / kv_heads;
    let parts = plan.parts.iter().map(|part| {
        let seen = |held: &Tensor| held.f_narrow(0, part.slot, part.slots)?.f_narrow(2, 0, part.keys);
        let own = queries.f_narrow(0, part.from, part.tokens)?;
        let own = own.f_view([part.slots, part.tokens / part.slots, kv_heads, group, size])?;
        // A head's queries together: `[slots, kv_heads, group * tokens of a slot, size]`.
        let own = own.f_permute([0, 2, 3, 1, 4])?.f_reshape([part.slots, kv_heads, -1, size])?;
        let got = Tensor::f_scaled_dot_product_attention(
            &own,
            &seen(&held.keys)?,
            &seen(&held.values)?,
            part.mask.as_ref(),
            0.0,
            false,
            None::<f64>,
            false,
        )?;
        let got = got.f_reshape([part.slots, kv_heads, group, part.tokens / part.slots, size])?;
        got.f_permute([0, 3, 1, 2, 4])?.f_reshape([part.tokens, heads * size])
    });
    let parts: Vec<Tensor> = parts.collect::<tch::Result<_>>()?;
    match parts.as_slice() {
        [one] => Ok(one.shallow_clone()),
        several => Tensor::f_cat(several, 0),
    }
}
