// Makes the PNG and WebP sources from JPEG photos, with sharp: PNG without loss, WebP at quality 90.
// Usage: node make-sources.mjs PEER-FOLDER PHOTOS OUT
import { mkdirSync, readdirSync, copyFileSync, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [peer, photos, out] = process.argv.slice(2);
const sharp = createRequire(pathToFileURL(`${peer}/package.json`))("sharp");

mkdirSync(out, { recursive: true });
for (const name of readdirSync(photos).filter((n) => /\.jpe?g$/i.test(n)).sort()) {
  const stem = name.replace(/\.jpe?g$/i, "");
  copyFileSync(`${photos}/${name}`, `${out}/${stem}.jpg`);
  if (!existsSync(`${out}/${stem}.png`)) await sharp(`${photos}/${name}`).png({ compressionLevel: 6 }).toFile(`${out}/${stem}.png`);
  if (!existsSync(`${out}/${stem}.webp`)) await sharp(`${photos}/${name}`).webp({ quality: 90 }).toFile(`${out}/${stem}.webp`);
}
