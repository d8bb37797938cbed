//! Files that somebody broke, or made to break us, each with what has to become of it.

use crate::picture::Picture;

/// What has to become of a file.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// 422.
    Refused,
    /// It shows this.
    Shown(Picture),
}

/// One file.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) fate: Fate,
}

fn scene() -> Picture {
    Picture::scene(120, 80, 3)
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |name: &str, bytes: Vec<u8>, fate: Fate| cases.push(Case { name: name.into(), bytes, fate });
    for (format, whole) in [("jpg", scene().jpeg()), ("png", scene().png()), ("webp", scene().webp())] {
        for part in [1, 4, 12, 30, 60, whole.len() / 4, whole.len() / 2, whole.len() * 9 / 10] {
            add(&format!("cut-at-{part}.{format}"), whole[..part].to_vec(), Fate::Refused);
        }
    }
    add("empty.jpg", Vec::new(), Fate::Refused);
    add("text.png", b"<!doctype html><title>no picture</title>".to_vec(), Fate::Refused);
    add(
        "script.svg",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>".to_vec(),
        Fate::Refused,
    );
    add("zeros.webp", vec![0; 100_000], Fate::Refused);
    add("checksum.png", corrupt_png(), Fate::Refused);
    add("pixels.png", png(120, 80, 8, 6, &zlib_stored(&[7; 1000])), Fate::Refused);
    add("giant.jpg", giant_jpeg(65_500, 65_500), Fate::Refused);
    add("giant.webp", giant_webp(16_384, 16_384), Fate::Refused);
    add("giant.png", png(60_000, 60_000, 8, 2, &zlib_stored(&[])), Fate::Refused);
    add("giant-numbers.png", png(0x7fff_ffff, 0x7fff_ffff, 16, 6, &zlib_stored(&[])), Fate::Refused);
    add("no-width.png", png(0, 10, 8, 2, &zlib_stored(&[])), Fate::Refused);
    add("just-within.png", png(7000, 7000, 16, 6, &zlib_stored(&[])), Fate::Refused);
    add("just-within.jpg", giant_jpeg(7000, 7000), Fate::Refused);
    add("scans.jpg", empty_scans(), Fate::Refused);
    add("surplus.png", surplus_pixels(), Fate::Refused);
    add("text-bomb.png", with_chunk(b"zTXt"), Fate::Shown(scene()));
    add("profile-bomb.png", with_chunk(b"iCCP"), Fate::Shown(scene()));
    add("late-size.jpg", after_profile(500_000), Fate::Shown(scene()));
    add("really-a-png.jpg", scene().png(), Fate::Shown(scene()));
    add("really-a-jpeg.webp", scene().jpeg(), Fate::Shown(scene()));
    add("really-a-webp.png", scene().webp(), Fate::Shown(scene()));
    add("really-a-png", scene().png(), Fate::Shown(scene()));
    cases
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    };
    !bytes.iter().fold(!0, step)
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [&name[..], body].concat();
    [&(body.len() as u32).to_be_bytes()[..], &named, &crc(&named).to_be_bytes()].concat()
}

/// A PNG whose pixels are `stream`, whatever its header says.
fn png(width: u32, height: u32, depth: u8, color: u8, stream: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
    let parts = [chunk(b"IHDR", &header), chunk(b"IDAT", stream), chunk(b"IEND", &[])];
    [b"\x89PNG\r\n\x1a\n".to_vec(), parts.concat()].concat()
}

/// A zlib stream that holds `bytes` as they are (RFC 1950, RFC 1951 §3.2.4).
fn zlib_stored(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    let head = [&[0x78, 0x01, 0x01][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
    [&head[..], bytes, &(high << 16 | low).to_be_bytes()].concat()
}

fn corrupt_png() -> Vec<u8> {
    let mut file = scene().png();
    let at = file.len() / 2;
    file[at] ^= 0x55;
    file
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(body.len() as u16 + 2).to_be_bytes(), body].concat()
}

/// Where the first segment `marker` of a JPEG begins.
fn place(jpeg: &[u8], marker: u8) -> usize {
    jpeg.windows(2).position(|two| two == [0xff, marker]).expect("the segment")
}

/// A JPEG whose frame header says this size.
fn giant_jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut file = scene().jpeg();
    let frame = place(&file, 0xc0);
    file[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    file[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    file
}

fn giant_webp(width: u32, height: u32) -> Vec<u8> {
    let three = |value: u32| [value as u8, (value >> 8) as u8, (value >> 16) as u8];
    let head = [&[0x10, 0, 0, 0][..], &three(width - 1), &three(height - 1)].concat();
    let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0".to_vec();
    file.extend(head);
    file.extend(&scene().webp()[12..]);
    let length = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

/// A progressive JPEG of thousands of scans without a bit of data.
fn empty_scans() -> Vec<u8> {
    let mut file = giant_jpeg(4000, 4000);
    let (frame, scan) = (place(&file, 0xc0), place(&file, 0xda));
    file.truncate(scan);
    file[frame + 1] = 0xc2;
    for _ in 0..20_000 {
        file.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]);
    }
    file.extend([0xff, 0xd9]);
    file
}

/// A small picture by its header, with the pixels of a large one.
fn surplus_pixels() -> Vec<u8> {
    let mut file = Picture::plain(4000, 4000, [0, 0, 0]).png();
    let header = [&8_u32.to_be_bytes()[..], &8_u32.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    file.splice(8..33, chunk(b"IHDR", &header));
    file
}

/// A picture with a small chunk that holds very much.
fn with_chunk(name: &[u8; 4]) -> Vec<u8> {
    let mut bomb = Vec::new();
    let mut encoder = png::Encoder::new(&mut bomb, 1, 1);
    encoder.add_ztxt_chunk("k".into(), "\0".repeat(200 << 20)).expect("a text");
    drop(encoder.write_header().expect("a header"));
    let at = bomb.windows(4).position(|word| word == b"zTXt").expect("the chunk");
    let length = u32::from_be_bytes(bomb[at - 4..at].try_into().expect("four bytes")) as usize;
    assert!((10_000..1 << 20).contains(&length), "it is small: {length}");
    let mut file = scene().png();
    file.splice(33..33, chunk(name, &bomb[at + 4..at + 4 + length]));
    file
}

fn after_profile(bytes: usize) -> Vec<u8> {
    let file = scene().jpeg();
    let parts: Vec<u8> = (0..bytes.div_ceil(60_000)).flat_map(|_| segment(0xe2, &[0; 60_000])).collect();
    [&file[..2], &parts, &file[2..]].concat()
}
