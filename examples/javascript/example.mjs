// What Node and the page show: y, the gradients, RMS norm, and what a refused call says.
import { LnormError } from "./lnorm.mjs";

// The first two rows.
function printed(label, values) {
    const lines = [];
    for (let i = 0; i < Math.min(values.length, 8); i += 4) {
        const row = Array.from(values.subarray(i, i + 4), (value) => value.toFixed(5).padStart(9));
        lines.push(`${row.join(" ")}  ${label}`);
    }
    return lines;
}

export function example(lnorm) {
    // 64 rows: these two, again and again.
    const x = Float32Array.from(Array(32).fill([1, 2, 3, 4, 10, 10, 10, 50]).flat());
    const dy = Float32Array.from(Array(32).fill([0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125]).flat());
    const gamma = Float32Array.of(1, 1, 2, 2);
    const beta = Float32Array.of(0, 0, 0, 1);

    const { y, mean, rstd } = lnorm.layerNorm(x, 4, { gamma, beta });
    const { dx, dgamma, dbeta } = lnorm.layerNormBackward(dy, x, 4, { mean, rstd, gamma });
    const results = { y, dx, dgamma, dbeta, "RMS norm": lnorm.rmsNorm(x, 4, { gamma }) };
    const lines = Object.entries(results).flatMap(([label, values]) => printed(label, values));
    try {
        lnorm.layerNorm(x, 4, { gamma, beta, eps: -1 });
    } catch (error) {
        if (!(error instanceof LnormError)) throw error;
        lines.push(`refused: ${error.message}`);
    }
    lines.push(`lnorm ${lnorm.version()}, ${lnorm.isa()}`);
    return lines.join("\n");
}
