// examples/javascript/build.sh && node examples/javascript/layer_norm.mjs
import { readFile } from "node:fs/promises";
import { example } from "./example.mjs";
import { load } from "./lnorm.mjs";

console.log(example(await load(await readFile(new URL("lnorm.wasm", import.meta.url)))));
