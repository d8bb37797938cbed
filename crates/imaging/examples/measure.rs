//! Measures a job over a folder of photos: CPU time, bytes, and SSIMULACRA2 against a reference of its own.
//!
//! `cargo run --release -p tutti-imaging --example measure -- FOLDER [--source png|webp|jpeg] [--source-quality N]
//! [--to jpeg|png|webp] [--size WxH] [--quality N] [--rounds N] [--full] [--least] [--fill] [--no-score]`
//!
//! The reference is the source, decoded in full, scaled by Lanczos3 in linear light in f32 and rounded to 16 bits. Files
//! are read once; a source format other than the folder's is made from it first. Rounds after the first are timed.

use std::path::PathBuf;

use ssimulacra2::{LinearRgb, compute_frame_ssimulacra2};
use tutti_imaging::spec::{Effort, Format, ResizeKind, Spec};
use tutti_imaging::{ImageFacts, Renderer, estimate, probe};

fn main() {
    let arguments = Arguments::parse(std::env::args().skip(1));
    let mut renderer = Renderer::new();
    let mut out = Vec::new();
    let inputs: Vec<Vec<u8>> =
        arguments.files().iter().map(|file| arguments.source(&mut renderer, file)).collect();
    assert!(!inputs.is_empty(), "the folder has no pictures");
    let mut times = vec![f64::MAX; inputs.len()];
    let mut sum = 0.0;
    for round in 0..=arguments.rounds {
        for (input, best) in inputs.iter().zip(&mut times) {
            let start = cpu_ms();
            renderer.render(&arguments.spec, input, &mut out).expect("the picture renders");
            let took = cpu_ms() - start;
            if round > 0 {
                *best = best.min(took);
                sum += took;
            }
        }
    }
    let count = inputs.len() as f64;
    let best = times.iter().sum::<f64>() / count;
    let mut bytes = 0;
    let mut scores = 0.0;
    let mut predicted = 0.0;
    for input in &inputs {
        renderer.render(&arguments.spec, input, &mut out).expect("the picture renders");
        bytes += out.len();
        predicted += f64::from(estimate(&arguments.spec, &facts(input)).cpu_ms);
        if arguments.score {
            scores += score(&mut renderer, input, &out);
        }
    }
    println!(
        "{} pictures: {:.2} ms CPU a job on average, {best:.2} at best, {:.2} predicted; {:.0} bytes; SSIMULACRA2 {:.2}",
        inputs.len(),
        sum / count / f64::from(arguments.rounds),
        predicted / count,
        bytes as f64 / count,
        scores / count
    );
}

fn facts(input: &[u8]) -> ImageFacts {
    let mut bytes = input;
    probe(&mut bytes)
}

struct Arguments {
    folder: PathBuf,
    spec: Spec,
    source: Option<Format>,
    source_quality: u8,
    rounds: u32,
    score: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let folder = words.next().expect("the first argument is a folder").into();
        let mut spec = Spec::default();
        (spec.resize.width, spec.resize.height) = (512, 512);
        let mut it = Self { folder, spec, source: None, source_quality: 90, rounds: 3, score: true };
        while let Some(word) = words.next() {
            let mut value = || words.next().expect("the option has a value");
            match word.as_str() {
                "--source" => it.source = Some(format(&value())),
                "--source-quality" => it.source_quality = value().parse().expect("a number"),
                "--to" => it.spec.output.format = Some(format(&value())),
                "--quality" => it.spec.output.quality = Some(value().parse().expect("a number")),
                "--rounds" => it.rounds = value().parse().expect("a number"),
                "--size" => {
                    let value = value();
                    let (width, height) = value.split_once('x').expect("a size is WxH");
                    it.spec.resize.width = width.parse().expect("a number");
                    it.spec.resize.height = height.parse().expect("a number");
                }
                "--full" => it.spec.full_decode = true,
                "--least" => it.spec.output.effort = Effort::Least,
                "--fill" => it.spec.resize.kind = ResizeKind::Fill,
                "--no-score" => it.score = false,
                word => panic!("unknown option {word}"),
            }
        }
        it
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).expect("the folder can be read");
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        files
    }

    fn source(&self, renderer: &mut Renderer, file: &PathBuf) -> Vec<u8> {
        let bytes = std::fs::read(file).expect("the file can be read");
        let Some(format) = self.source else { return bytes };
        let mut spec = Spec { full_decode: true, ..Spec::default() };
        spec.output.format = Some(format);
        spec.output.quality = Some(self.source_quality);
        let mut out = Vec::new();
        renderer.render(&spec, &bytes, &mut out).expect("the picture renders");
        out
    }
}

fn format(name: &str) -> Format {
    match name {
        "jpeg" => Format::Jpeg,
        "png" => Format::Png,
        "webp" => Format::WebP,
        name => panic!("unknown format {name}"),
    }
}

/// CPU time of this process in milliseconds.
#[expect(unsafe_code, reason = "the clock of a process has no safe wrapper here")]
fn cpu_ms() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of a live value.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn score(renderer: &mut Renderer, input: &[u8], output: &[u8]) -> f64 {
    let source = Picture::decode(renderer, input);
    let result = Picture::decode(renderer, output);
    let reference = source.scaled(result.width, result.height);
    compute_frame_ssimulacra2(reference.linear(), result.linear()).expect("both have one size")
}

/// Linear RGB in f32.
struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
}

impl Picture {
    fn decode(renderer: &mut Renderer, file: &[u8]) -> Self {
        let mut spec = Spec { full_decode: true, background: Some([255; 3]), ..Spec::default() };
        spec.output.format = Some(Format::Png);
        spec.output.effort = Effort::Least;
        let mut out = Vec::new();
        renderer.render(&spec, file, &mut out).expect("the picture renders");
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&out));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().expect("our PNG is sound");
        let mut bytes = vec![0; reader.output_buffer_size().expect("it fits")];
        let info = reader.next_frame(&mut bytes).expect("our PNG is sound");
        let samples = info.color_type.samples();
        let pixels = bytes.chunks_exact(samples).map(|pixel| {
            let at = |c: usize| linear(f32::from(pixel[if samples < 3 { 0 } else { c }]) / 255.0);
            [at(0), at(1), at(2)]
        });
        Self { width: info.width as usize, height: info.height as usize, pixels: pixels.collect() }
    }

    fn scaled(&self, width: usize, height: usize) -> Self {
        let across = weights(self.width, width);
        let down = weights(self.height, height);
        let mut rows = vec![[0.0_f32; 3]; self.height * width];
        for y in 0..self.height {
            for (x, (start, weights)) in across.iter().enumerate() {
                let window = &self.pixels[y * self.width + start..];
                rows[y * width + x] = sum(weights, window.iter().copied());
            }
        }
        let mut pixels = Vec::with_capacity(width * height);
        for (start, weights) in &down {
            for x in 0..width {
                let column = rows[start * width + x..].iter().step_by(width).copied();
                pixels.push(sum(weights, column).map(sixteen_bits));
            }
        }
        Self { width, height, pixels }
    }

    fn linear(&self) -> LinearRgb {
        LinearRgb::new(self.pixels.clone(), self.width, self.height).expect("the size fits")
    }
}

fn sum(weights: &[f32], pixels: impl Iterator<Item = [f32; 3]>) -> [f32; 3] {
    let mut sum = [0.0; 3];
    for (weight, pixel) in weights.iter().zip(pixels) {
        for c in 0..3 {
            sum[c] += weight * pixel[c];
        }
    }
    sum
}

fn weights(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let one = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        let start = (center - 3.0 * stretch).floor().max(0.0) as usize;
        let end = ((center + 3.0 * stretch).ceil() as usize).min(from);
        let values: Vec<f64> = (start..end).map(|x| lanczos((x as f64 + 0.5 - center) / stretch)).collect();
        let sum: f64 = values.iter().sum();
        (start, values.iter().map(|value| (value / sum) as f32).collect())
    };
    (0..to).map(one).collect()
}

fn lanczos(x: f64) -> f64 {
    let sinc =
        |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if x.abs() >= 3.0 { 0.0 } else { sinc(x) * sinc(x / 3.0) }
}

/// IEC 61966-2-1.
fn linear(x: f32) -> f32 {
    if x <= 0.040_45 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
}

/// Rounds to 16 bits of sRGB code and back.
fn sixteen_bits(x: f32) -> f32 {
    let x = x.clamp(0.0, 1.0);
    let code = if x <= 0.003_130_8 { x * 12.92 } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 };
    linear((code * 65_535.0).round() / 65_535.0)
}
