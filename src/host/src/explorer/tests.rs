//! The page in a real browser.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use inas_space::Space;
use rand::SeedableRng as _;

use super::*;

/// A made-up search with everything that a page can show.
fn report() -> SearchReport {
    let space = Space::preset("nano").unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut networks: Vec<Network> = (0..60)
        .map(|i| {
            let arch = space.uniform(&mut rng);
            let place = f64::from(i) / 60.0;
            Network {
                hash: arch.hash(),
                parts_ms: [1.0 + 3.0 * place, 0.5 + place, 0.7 + place],
                f_max: 0.7 + 0.1 * place + if i % 6 == 0 { 0.03 } else { 0.0 },
                mae: 0.1,
                share: if i % 7 == 1 { 0.25 } else { 1.0 },
                generation: i as usize / 20,
                origin: if i < 20 { Origin::Init } else { Origin::Crossover },
                parents: Vec::new(),
                front: i % 6 == 0,
                blocks: Vec::new(),
                arch,
            }
        })
        .collect();
    for i in 20..60 {
        networks[i].parents = vec![networks[i - 20].hash.clone(), networks[i - 19].hash.clone()];
    }
    for network in networks.iter_mut().filter(|n| n.front) {
        let blocks = space.blocks(&network.arch, 128).unwrap();
        network.blocks = blocks.into_iter().enumerate().map(|(i, b)| (b.name, 10.0 + i as f64)).collect();
    }
    let front: Vec<&Network> = networks.iter().filter(|n| n.front).collect();
    let measured = front.iter().take(5).map(|n| {
        let predicted_ms = n.parts_ms.iter().sum::<f64>();
        Measured { hash: n.hash.clone(), predicted_ms, measured_ms: 1.08 * predicted_ms, front: true }
    });
    let picture = |shade: u8| {
        let mut png = std::io::Cursor::new(Vec::new());
        image::GrayImage::from_pixel(16, 16, image::Luma([shade])).write_to(&mut png, image::ImageFormat::Png).unwrap();
        data_uri("image/png", png.get_ref())
    };
    let masks = Masks {
        photos: vec![picture(90), picture(140)],
        labels: vec![picture(0), picture(255)],
        maps: front.iter().take(3).map(|n| (n.hash.clone(), vec![picture(60), picture(200)])).collect(),
    };
    let generation = |g: usize| Generation {
        generation: g,
        evaluated: 20 * (g + 1),
        hypervolume: 0.6 + 0.02 * g as f64,
        shortfall: 0,
    };
    SearchReport {
        title: "A search </script><script>document.body.innerHTML = 'broken'</script>".into(),
        command: "inas search <b>".into(),
        version: "0".into(),
        created: "2026-01-01T00:00:00Z".into(),
        facts: vec![("runtime".into(), "tract".into())],
        groups: (2.2, 7.2, 10),
        generations: (0..3).map(generation).collect(),
        measured: measured.collect(),
        masks: Some(masks),
        space,
        networks,
    }
}

/// Runs the system's browser without a window; what is missing fails.
fn browser(arguments: &[&str], page: &Path) -> Vec<u8> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let profile = tempfile::tempdir().unwrap();
    let output = names.iter().find_map(|name| {
        Command::new(name)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .output()
            .ok()
    });
    output.expect("no Chromium: scripts/test says how to install it").stdout
}

#[test]
fn the_page_draws_itself_in_a_browser_and_runs_nothing_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let report = report();
    let page = write(&report, dir.path()).unwrap();
    assert_eq!(read(dir.path()).unwrap(), report);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(!html.contains("src=\"http") && !html.contains("href="), "the page loads something");

    let dom = String::from_utf8(browser(&["--dump-dom"], &page)).unwrap();
    assert!(dom.contains("data-ready=\"yes\""), "the script did not come to its end");
    // Networks, generations, measured.
    assert_eq!(dom.matches("<circle class=\"dot").count(), 60 + 3 + 5);
    assert_eq!(dom.matches("class=\"dot front chosen\"").count(), 1);
    assert!(dom.contains("stage 7") && dom.contains("transport level 4") && dom.contains("decoder level 0"));
    assert!(
        dom.contains("ancestors") && dom.contains("fusion 0") && dom.contains("60 networks evaluated, 10 on the front")
    );
    assert_eq!(dom.matches("<img ").count(), 2 + 2 + 3 * 2);
    assert!(dom.contains("&lt;/script&gt;") && !dom.contains(">broken<"));

    let picture = dir.path().join("page.png");
    browser(&[&format!("--screenshot={}", picture.display()), "--window-size=1240,2400"], &page);
    let picture = image::open(&picture).unwrap().to_rgb8();
    let colours: BTreeSet<[u8; 3]> = picture.pixels().map(|p| p.0).collect();
    // Dots, front, parts, heat: not a blank page.
    assert!(picture.dimensions() == (1240, 2400) && colours.len() > 100, "{} colours", colours.len());
    for colour in [[0x1d, 0x5f, 0xa8], [0xaa, 0xb2, 0xbd], [0xc2, 0x41, 0x0c], [0x0f, 0x76, 0x6e]] {
        assert!(colours.contains(&colour), "no {colour:?}");
    }
}
