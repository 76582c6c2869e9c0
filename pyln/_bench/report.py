"""The tables that ``python -m pyln bench`` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

LIMIT_OF = {"forward": "a copy of the tensor", "backward": "two tensors added into a third"}
WIDTH = 10


class Table:
    """Prints cases as they come, with a heading whenever what they are about changes."""

    def __init__(self, names: Sequence[str], write: Callable[[str], object] = print) -> None:
        self.names = names
        self.write = write
        self.heading: tuple[Any, ...] = ()

    def add(self, case: dict[str, Any]) -> None:
        """One line."""
        if "skipped" in case:
            self._one_thread(case)
        else:
            self._threads(case)

    def _one_thread(self, case: dict[str, Any]) -> None:
        times = {timed["name"]: timed for timed in case["times"]}
        limit = case["times"][0]
        if self._is_new(case["direction"], "one thread"):
            limit_is = LIMIT_OF[case["direction"]]
            self.write(f"\n{case['direction']}, {case['type']}, one thread: times the limit, which is {limit_is}")
            words = [name.split(" ") for name in self.names]
            self.write(" " * 25 + "".join(f"{word[0] if len(word) > 1 else '':>{WIDTH}}" for word in words))
            self.write(f"{'rows x cols':14}{'limit':>11}" + "".join(f"{word[-1]:>{WIDTH}}" for word in words))
        cells = "".join(f"{ratio(times.get(name)):>{WIDTH}}" for name in self.names)
        self.write(f"{shape(case):14}{duration(limit['seconds'][1]):>11}{cells}")

    def _threads(self, case: dict[str, Any]) -> None:
        if self._is_new(case["direction"], "threads"):
            self.write(f"\n{case['direction']}, {case['type']}: times as fast as with one thread")
            columns = [f"{timed['name']} x{timed['threads']}" for timed in case["times"] if timed["threads"] > 1]
            self.write(f"{'rows x cols':14}{'pyln x1':>11}" + "".join(f"{name:>{WIDTH}}" for name in columns))
        one = {timed["name"]: timed["seconds"][1] for timed in case["times"] if timed["threads"] == 1}
        cells = "".join(
            f"{one[timed['name']] / timed['seconds'][1]:>{WIDTH}.2f}" for timed in case["times"] if timed["threads"] > 1
        )
        self.write(f"{shape(case):14}{duration(one['pyln']):>11}{cells}")

    def _is_new(self, *heading: object) -> bool:
        new, self.heading = heading != self.heading, heading
        return new


def shape(case: dict[str, Any]) -> str:
    """Rows x cols."""
    return f"{case['rows']} x {case['cols']}"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def ratio(timed: dict[str, Any] | None) -> str:
    """The median, and half the distance between the quartiles in percent of it."""
    if timed is None:
        return "-"
    first, median, third = timed["ratio"]
    digits = 2 if median < 9.995 else 1 if median < 99.95 else 0
    return f"{median:.{digits}f}±{50 * (third - first) / median:.0f}"


def head(report: dict[str, Any]) -> str:
    """What the machine is, and what is measured."""
    machine, settings = report["machine"], report["settings"]
    caches = ", ".join(f"{name} {size >> 10} KiB" for name, size in machine.get("caches", {}).items())
    cpus = f", {machine['cpus']} CPUs" if "cpus" in machine else ""
    lines = [f"{machine['cpu']}{cpus}" + (f"; {caches}" if caches else "")]
    lines.append(
        ", ".join(f"{name} {version}" for name, version in {"pyln": report["pyln"], **report["versions"]}.items())
    )
    details = [settings["type"], settings["layout"], "gamma and beta" if settings["affine"] else "no gamma, no beta"]
    lines.append(", ".join(details))
    if machine.get("load") is not None and machine["load"] > 0.5:
        lines.append(f"Something else was running: the load was {machine['load']} at the start. Expect wide spreads.")
    return "\n".join(lines)


def foot(report: dict[str, Any]) -> str:
    """The summary, and who did not take part in what."""
    lines = ["", "geometric mean of the time, lnorm = 1 (above 1 is slower than lnorm)"]
    for direction, means in report["summary"]["times_lnorm"].items():
        lines.append(f"  {direction:9}" + ", ".join(f"{name} {mean:.2f}" for name, mean in means.items()))
    slower = report["summary"]["slower_than_onednn"]
    for direction, rows, cols, factor in slower:
        lines.append(f"slower than oneDNN: {direction} {rows} x {cols}, {factor:.2f} times its time")
    if not slower and any(timed["name"] == "oneDNN" for case in report["cases"] for timed in case["times"]):
        lines.append("no shape is slower than oneDNN")
    reasons = {(n, c["direction"], why) for c in report["cases"] for n, why in c["skipped"].items()}
    lines += [f"{name}, {direction}: {why}" for name, direction, why in sorted(reasons)]
    return "\n".join(lines)
