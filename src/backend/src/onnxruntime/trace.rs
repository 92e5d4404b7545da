//! The trace that ONNX Runtime writes: a JSON list of events.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::OperatorTime;

/// What names of events that time an operator itself end in; others time synchronisation.
const KERNEL: &str = "_kernel_time";

/// An event; fields that it lacks stay empty.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Event {
    cat: String,
    name: String,
    /// Microseconds.
    dur: f64,
    ts: f64,
    args: Arguments,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Arguments {
    op_name: String,
}

/// Times of the operators in the last `runs` runs, in the order of execution.
pub(super) fn operators(json: &str, runs: usize) -> Result<Vec<OperatorTime>, serde_json::Error> {
    let events: Vec<Event> = serde_json::from_str(json)?;
    let mut found: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events.iter().filter(|e| e.cat == "Node") {
        if let Some(name) = event.name.strip_suffix(KERNEL) {
            found.entry(name).or_default().push(event);
        }
    }
    let mut operators: Vec<(f64, OperatorTime)> = Vec::new();
    for (name, mut events) in found {
        events.sort_by(|a, b| a.ts.total_cmp(&b.ts));
        let counted = &events[events.len().saturating_sub(runs)..];
        let first = counted.first().map_or(0.0, |e| e.ts);
        let op = counted.first().map_or("", |e| &e.args.op_name);
        let time = OperatorTime::new(name, op, counted.iter().map(|e| e.dur).collect());
        operators.extend(time.map(|t| (first, t)));
    }
    operators.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(operators.into_iter().map(|o| o.1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_operators_are_read_in_order_and_warm_ones_alone() {
        let json = r#"[
            {"cat":"Session","pid":1,"tid":2,"dur":40,"ts":1,"ph":"X","name":"model_loading_array","args":{}},
            {"cat":"Node","dur":90,"ts":10,"ph":"X","name":"z_kernel_time","args":{"op_name":"Conv","provider":"CPU"}},
            {"cat":"Node","dur":90,"ts":11,"ph":"X","name":"a_kernel_time","args":{"op_name":"Add","provider":"CPU"}},
            {"cat":"Node","dur":1,"ts":12,"ph":"X","name":"a_fence_after","args":{"op_name":"Add"}},
            {"cat":"Node","dur":4,"ts":20,"ph":"X","name":"z_kernel_time","args":{"op_name":"Conv","provider":"CPU"}},
            {"cat":"Node","dur":2,"ts":21,"ph":"X","name":"a_kernel_time","args":{"op_name":"Add","provider":"CPU"}}
        ]"#;
        let found = operators(json, 1).expect("valid");
        let found: Vec<_> = found.iter().map(|o| (o.name.as_str(), o.op.as_str(), o.us)).collect();
        assert_eq!(found, [("z", "Conv", 4.0), ("a", "Add", 2.0)]);
        assert!(operators("[{", 1).is_err());
    }
}
