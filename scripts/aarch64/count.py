#!/usr/bin/env python3
"""Instructions of the NEON kernels per element, and what a scheduler's model says of their loops.

No AArch64 machine is timed: qemu counts the instructions that run, and llvm-mca predicts the cycles of each loop that
takes a twentieth of them or more, with the loop's loads and stores alone beside it as the bound.

Needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user and llvm-19.
"""

import collections
import pathlib
import re
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SHAPES = [(1, 768), (32, 768), (256, 64), (64, 4096), (64, 301)]
CPUS = ["neoverse-n1", "apple-m1"]
MEMORY = re.compile(r"^(ld|st)[a-z0-9]+$")
BRANCH = re.compile(r"^(b\.|cb|tb)")
SYMBOL = re.compile(r"^[0-9a-f]+ <(\w+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t[0-9a-f]+ \t(\S+)\s*(.*)$")


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, text=True, capture_output=True, **options).stdout


def build(folder):
    sources = sorted((ROOT / "src/c").glob("*.c"))
    run("aarch64-linux-gnu-gcc", "-O3", "-static", f"-I{ROOT}/include", *sources, HERE / "driver.c",
        "-lm", "-o", folder / "driver")  # fmt: skip
    run("gcc", "-O2", "-shared", "-fPIC", HERE / "count_plugin.c", "-o", folder / "count.so")


def count(folder, operation, rows, cols, repeats):
    """The instructions that ran, by (address, length) of their block."""
    output = folder / "counts"
    plugin = ["-plugin", f"{folder}/count.so,output={output}"]
    run("qemu-aarch64", *plugin, folder / "driver", operation, rows, cols, repeats)
    blocks = collections.Counter()
    for line in output.read_text().splitlines():
        ran, address, length = map(int, line.split())
        blocks[address, length] += ran
    return blocks


def disassemble(folder):
    """Address -> (function, instruction as text)."""
    code, function = {}, None
    for line in run("aarch64-linux-gnu-objdump", "-d", folder / "driver").splitlines():
        if found := SYMBOL.match(line):
            function = found[1]
        elif found := INSTRUCTION.match(line):
            operands = re.sub(r"\s*(<|//).*", "", found[3])
            code[int(found[1], 16)] = function, found[2], operands
    return code


def cycles(instructions, cpu):
    """Cycles of one turn of a loop, in the long run."""
    text = "".join(f"{name} {operands}\n" for name, operands in instructions)
    report = run("llvm-mca-19", "-mtriple=aarch64", f"-mcpu={cpu}", "-iterations=200", input=text)
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / 200


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        build(folder)
        code = disassemble(folder)
        for operation in ("forward", "backward"):
            loops = {}
            for rows, cols in SHAPES:
                few, many = (count(folder, operation, rows, cols, n) for n in (1, 3))
                blocks = {block: (many[block] - few[block]) / 2 for block in many}
                total = sum(blocks.values())
                print(f"{operation:8} {rows:5} x {cols:<5} {total / (rows * cols):6.2f} instructions per element")
                for (address, length), ran in blocks.items():
                    end = address + 4 * (length - 1)
                    _, branch, target = code.get(end, (None, "", ""))
                    if ran > total / 20 and BRANCH.match(branch):
                        loops.setdefault((int(target.split()[-1], 16), end), []).append(f"{rows} x {cols}")
            for (start, end), shapes in sorted(loops.items()):
                body = [code[at] for at in range(start, end, 4)]
                if not body:
                    continue
                loop = [instruction for _, *instruction in body if not BRANCH.match(instruction[0])]
                memory = [instruction for instruction in loop if MEMORY.match(instruction[0])]
                print(f"  {body[0][0]}, loop of {len(body) + 1} instructions, {len(memory)} of them loads and stores"
                      f" ({', '.join(shapes)})")  # fmt: skip
                for cpu in CPUS:
                    took, bound = cycles(loop, cpu), cycles(memory, cpu)
                    print(f"    {cpu:12} {took:6.1f} cycles, {took / bound:.2f} times the loads and stores alone")


if __name__ == "__main__":
    main()
