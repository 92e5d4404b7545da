//! Files of a finished search.

use std::fmt::Write as _;
use std::path::Path;

use inas_host::search::{self, SearchResult, SharedNetwork};

use super::{Job, Target};
use crate::commands::write_file;
use crate::printer::Printer;

/// Writes the front, everything evaluated, the generations, the lineage, and each device's front when there are several.
pub(super) fn write(
    out: &Path,
    target: &Target,
    job: &Job,
    result: &SearchResult,
    printer: Printer,
) -> anyhow::Result<()> {
    search::write_front_csv(&out.join("front.csv"), &result.front)?;
    search::write_front_json(&out.join("front.json"), &result.front)?;
    write_file(&out.join("search.json"), &serde_json::to_vec(result)?)?;
    let mut generations = "generation,evaluated,hypervolume,shortfall\n".to_owned();
    for g in &result.generations {
        let _ = writeln!(generations, "{},{},{},{}", g.generation, g.evaluated, g.hypervolume, g.shortfall);
    }
    write_file(&out.join("generations.csv"), generations.as_bytes())?;
    write_file(&out.join("lineage.json"), &serde_json::to_vec_pretty(&search::lineage(result))?)?;
    if target.devices.len() > 1 {
        several(out, target, job, result, printer)?;
    }
    printer.note(format_args!(
        "  Searched {} architectures, {} on the front: {}",
        result.evaluated.len(),
        result.front.len(),
        out.join("front.csv").display()
    ));
    Ok(())
}

/// The front of each device, and the best single networks over all of them.
fn several(out: &Path, target: &Target, job: &Job, result: &SearchResult, printer: Printer) -> anyhow::Result<()> {
    for (name, predictor) in target.devices.each() {
        let front = search::device_front(result, predictor, job.config.min_score)?;
        search::write_front_csv(&out.join(format!("front-{name}.csv")), &front)?;
        search::write_front_json(&out.join(format!("front-{name}.json")), &front)?;
    }
    let shared = search::shared_networks(result, &target.devices, job.config.min_score)?;
    let names: Vec<&str> = target.devices.each().map(|(name, _)| name).collect();
    let mut csv = "architecture,f_max".to_owned();
    for name in &names {
        let _ = write!(csv, ",{name}_ms,{name}_over_own_front_percent");
    }
    csv.push_str(",worst_over_own_front_percent\n");
    for network in &shared {
        let _ = write!(csv, "{},{}", network.hash, network.f_max);
        for (ms, loss) in network.latency_ms.iter().zip(&network.loss_percent) {
            let _ = write!(csv, ",{ms:.4},{loss:.2}");
        }
        let _ = writeln!(csv, ",{:.2}", network.worst_percent());
    }
    write_file(&out.join("devices.csv"), csv.as_bytes())?;
    // Of equally good ones the most accurate.
    let order = |a: &&SharedNetwork, b: &&SharedNetwork| {
        a.worst_percent().total_cmp(&b.worst_percent()).then(b.f_max.total_cmp(&a.f_max))
    };
    if let Some(best) = shared.iter().min_by(order) {
        let each: Vec<String> =
            names.iter().zip(&best.latency_ms).map(|(name, ms)| format!("{name} {ms:.2} ms")).collect();
        printer.note(format_args!(
            "  Best single network over all devices: {} with F {:.4}, {}; at most {:.1} % slower than a device's own \
             network of that accuracy",
            best.hash,
            best.f_max,
            each.join(", "),
            best.worst_percent()
        ));
    }
    Ok(())
}
