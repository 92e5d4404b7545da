//! The data of the interactive report.

use std::collections::BTreeSet;
use std::path::Path;

use inas_host::data::read_list;
use inas_host::evaluate::Evaluator;
use inas_host::explorer::{self, Masks, Measured, Network, SearchReport, data_uri};
use inas_host::search::{Evaluated, SearchResult, Strategy};
use inas_profiler::profile::Profile;

use super::{EvalArgs, Job, Target};
use crate::printer::Printer;

/// Networks whose maps are shown.
const ROWS: usize = 6;
/// Photos that they are shown for.
const PHOTOS: usize = 6;

/// Supernet and images, where they are at hand.
pub(super) type Eyes<'a> = Option<(&'a Evaluator, &'a EvalArgs)>;

pub(super) fn write(
    out: &Path,
    target: &Target,
    job: &Job,
    result: &SearchResult,
    measured: Vec<Measured>,
    eyes: Eyes<'_>,
    printer: Printer,
) -> anyhow::Result<()> {
    let predictor = target.devices.objective();
    let front: BTreeSet<&str> = result.front.iter().map(|e| e.hash.as_str()).collect();
    let single = if target.profiles.len() == 1 { target.profiles.first() } else { None };
    let network = |e: &Evaluated| -> anyhow::Result<Network> {
        let front = front.contains(e.hash.as_str());
        let blocks = match single.filter(|_| front) {
            Some(profile) => blocks(profile, job.plain_sum, e)?,
            None => Vec::new(),
        };
        let l = &e.latency;
        Ok(Network {
            hash: e.hash.clone(),
            parts_ms: [l.backbone.ms(), l.transport.ms(), l.decoder.ms()],
            f_max: e.score.f_max,
            mae: e.score.mae,
            share: e.share,
            generation: e.generation,
            origin: e.origin,
            parents: e.parents.clone(),
            front,
            arch: e.arch.clone(),
            blocks,
        })
    };
    let (low, high) = predictor.ends();
    let report = SearchReport {
        title: format!("Search of space {}", predictor.space().name),
        command: inas_profiler::command_line(std::env::args()),
        version: env!("CARGO_PKG_VERSION").into(),
        created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        facts: facts(target, job),
        space: predictor.space().clone(),
        groups: (low.ms(), high.ms(), job.config.groups),
        networks: result.evaluated.iter().map(network).collect::<anyhow::Result<_>>()?,
        generations: result.generations.clone(),
        measured,
        masks: eyes.map(|(evaluator, eval)| masks(evaluator, eval, &result.front)).transpose()?,
    };
    let page = explorer::write(&report, out)?;
    printer.note(format_args!("  To look at it: {}", page.display()));
    Ok(())
}

fn blocks(profile: &Profile, plain: bool, e: &Evaluated) -> anyhow::Result<Vec<(String, f64)>> {
    let table = profile.model(plain);
    let mut blocks = Vec::new();
    for block in profile.space().blocks(&e.arch, profile.input_px())? {
        blocks.push((block.name, table.get(&block.key)?.0));
    }
    Ok(blocks)
}

fn facts(target: &Target, job: &Job) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |label: &str, value: String| facts.push((label.to_owned(), value));
    for ((name, _), profile) in target.devices.each().zip(&target.profiles) {
        let f = profile.facts();
        let cpu = f.device.cpu_brand.clone().unwrap_or_else(|| "unknown processor".into());
        add("device", format!("{name}: {cpu}; {} {}, {} thread(s)", f.runtime.name, f.runtime.version, f.threads));
    }
    let space = target.devices.space();
    add("space", format!("{} ({})", space.name, space.hash()));
    add("input", format!("{0} x {0} px", target.devices.objective().px()));
    let c = &job.config;
    let strategy = match c.strategy {
        Strategy::Evolution => "LGS evolution",
        Strategy::Nsga2 => "NSGA-II",
        Strategy::Random => "random",
    };
    add(
        "search",
        format!(
            "{strategy}; N = {}, G = {}, k = {}, {} generations, p_c = {}, p_m = {}, seed {}",
            c.population, c.groups, c.keep, c.iterations, c.crossover, c.mutation, c.seed
        ),
    );
    facts
}

/// Maps of networks spread over the front, of photos spread over the validation list.
fn masks(evaluator: &Evaluator, eval: &EvalArgs, front: &[Evaluated]) -> anyhow::Result<Masks> {
    let samples = read_list(&eval.val_data, None)?;
    let spread = crate::commands::export::spread;
    let photos: Vec<usize> = spread(samples.len(), PHOTOS.min(samples.len())).collect();
    let small = |path: &Path| -> anyhow::Result<String> {
        let image = image::ImageReader::open(path)?.with_guessed_format()?.decode()?.thumbnail(208, 208).to_rgb8();
        let mut bytes = Vec::new();
        image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 82))?;
        Ok(data_uri("image/jpeg", &bytes))
    };
    let mut maps = Vec::new();
    for i in spread(front.len(), ROWS.min(front.len())) {
        let statistics = evaluator.statistics(&front[i].arch)?;
        let mut row = Vec::new();
        for &photo in &photos {
            let map = evaluator.map(&front[i].arch, &statistics, photo)?;
            let side = evaluator.px();
            let grey = map.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
            let mut png = std::io::Cursor::new(Vec::new());
            if let Some(image) = image::GrayImage::from_raw(side, side, grey) {
                image.write_to(&mut png, image::ImageFormat::Png)?;
            }
            row.push(data_uri("image/png", png.get_ref()));
        }
        maps.push((front[i].hash.clone(), row));
    }
    Ok(Masks {
        photos: photos.iter().map(|&i| small(&samples[i].image)).collect::<anyhow::Result<_>>()?,
        labels: photos.iter().map(|&i| small(&samples[i].label)).collect::<anyhow::Result<_>>()?,
        maps,
    })
}
