// ipx as its README serves it, over local files. Usage: node ipx-server.mjs PORT FOLDER PEER-FOLDER
// For throughput on few cores: one libvips thread a picture (concurrency comes from requests), and no cache, since no URL repeats.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [port, folder, peer] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${peer}/package.json`));
const sharp = require("sharp");
const { createIPX, ipxFSStorage, createIPXNodeServer } = await import(pathToFileURL(require.resolve("ipx")).href);

sharp.concurrency(1);
sharp.cache(false);
const ipx = createIPX({ storage: ipxFSStorage({ dir: folder }) });
createServer(createIPXNodeServer(ipx)).listen(Number(port), "127.0.0.1");
