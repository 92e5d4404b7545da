//! `inas devices`

use inas_device::{Facts, Target, attached};

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look at these too, e.g. ssh:USER@HOST; this machine and what adb lists are always there.
    #[arg(long = "target", value_name = "DEVICE")]
    targets: Vec<Target>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Lists devices and what they tell of themselves; false when one does not answer.
pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let mut targets = vec![Target::Local];
    match attached() {
        Ok(phones) => targets.extend(phones.into_iter().map(|(serial, _)| Target::Adb(Some(serial)))),
        Err(error) => printer.note(format_args!("no phones: {error}")),
    }
    for target in &args.targets {
        if !targets.contains(target) {
            targets.push(target.clone());
        }
    }
    let answers: Vec<(Target, Result<Facts, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = targets.iter().map(|t| scope.spawn(move || ask(t))).collect();
        let joined = threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("internal failure".into())));
        targets.iter().cloned().zip(joined).collect()
    });
    let good = answers.iter().all(|a| a.1.is_ok());
    if args.json {
        let entry = |(target, answer): &(Target, Result<Facts, String>)| {
            let (facts, error) = (answer.as_ref().ok(), answer.as_ref().err());
            serde_json::json!({ "target": target.to_string(), "facts": facts, "error": error })
        };
        let list: Vec<_> = answers.iter().map(entry).collect();
        printer.result(serde_json::to_string_pretty(&list)?)?;
        return Ok(good);
    }
    for (target, answer) in answers {
        let text = answer.map_or_else(|error| format!("no answer: {error}"), |facts| words(&facts));
        printer.result(format_args!("{target:<24} {text}", target = target.to_string()))?;
    }
    Ok(good)
}

fn ask(target: &Target) -> Result<Facts, String> {
    let mut device = target.open(None).map_err(|e| e.to_string())?;
    device.connect().and_then(|()| device.facts()).map_err(|e| e.to_string())
}

fn words(facts: &Facts) -> String {
    let some = |text: &Option<String>| text.clone();
    let degrees = |c: f64| format!("{c:.0} C");
    let parts = [
        some(&facts.model),
        some(&facts.soc),
        facts.android.as_ref().map(|a| format!("Android {a}")),
        some(&facts.l4t),
        facts.abi.clone().or_else(|| facts.machine.clone()),
        Some(facts.clusters()).filter(|c| !c.is_empty()),
        facts.memory_mb.map(|mb| format!("{:.1} GB", mb as f64 / 1e3)),
        Some(facts.governors().join("/")).filter(|g| !g.is_empty()),
        facts.hottest().and_then(|z| z.celsius).map(degrees),
        facts.battery.percent.map(|p| format!("battery {p} %")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
