"""How long `run` takes, with success or without, as one list of config.json grows: `hack/bench growth`.

The table has a row for each list and size; the picture (--svg FILE) has a panel for each list, both axes logarithmic: a
line of slope one is linear growth, which the grey line shows.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time

SIZES = (1000, 4000, 16000, 64000)
# A size that took longer than this is a list's last.
PATIENCE_S = 10


def many(one):
    return lambda n: [one(i) for i in range(n)]


def named(name, value):
    return lambda n: {f"{name}{i}": value for i in range(n)}


def filtered(rules):
    return lambda n: {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules(n)}


def compared(i):
    return {"names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": i, "op": "SCMP_CMP_EQ"}]}


# Each list: where it is in config.json, and its value of a size.
LISTS = {
    "env": ("process/env", many(lambda i: f"V{i}=1")),
    "colons of PATH": ("process/env", lambda n: ["PATH=" + ":" * n]),
    "capabilities": ("process/capabilities/bounding", many(lambda i: f"CAP_NOSUCH{i}")),
    "groups": ("process/user/additionalGids", many(lambda i: i)),
    "annotations": ("annotations", named("name", "value")),
    "mounts": ("mounts", many(lambda i: {"destination": f"/dev/shm/{i}", "type": "tmpfs", "source": "x", "options": ["ro"]})),
    "masked paths": ("linux/maskedPaths", many(lambda i: f"/nosuch{i}")),
    "read-only paths": ("linux/readonlyPaths", many(lambda i: f"/nosuch{i}")),
    "devices": ("linux/devices", many(lambda i: {"type": "c", "major": 1, "minor": 3, "path": f"/dev/x{i}"})),
    "device rules": ("linux/resources/devices",
                     many(lambda i: {"allow": True, "type": "c", "major": i % 4000, "minor": i // 4000, "access": "rwm"})),
    "system calls": ("linux/seccomp", filtered(lambda n: [{"names": [f"nosuch{i}" for i in range(n)], "action": "SCMP_ACT_LOG"}])),
    "seccomp rules": ("linux/seccomp", filtered(many(compared))),
    "sysctls": ("linux/sysctl", named("net.nosuch", "1")),
    "throttled devices": ("linux/resources/blockIO/throttleReadBpsDevice", many(lambda i: {"major": 8, "minor": i, "rate": 1})),
}


def bundle_of(directory, stock, rootfs, place, value):
    config = json.loads(stock)
    config["root"]["path"] = rootfs
    *parents, key = place.split("/")
    at = config
    for part in parents:
        at = at.setdefault(part, {})
    at[key] = value
    os.mkdir(directory)
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(config, file, separators=(",", ":"))


def timed(runtime, bundle, remove):
    """Milliseconds, and the exit status; None where it took too long by far."""
    argv, start = runtime.run_argv(bundle), time.perf_counter()
    process = subprocess.Popen(argv, env=runtime.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        status = process.wait(timeout=3 * PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        status = None
    taken = (time.perf_counter() - start) * 1000
    if status != 0:
        remove(argv[-1])
    return taken, status


def growth(bench, runtimes, svg, remove_left_cgroups):
    """Prints the table while it is made; `refused` where the runtime said no, which must not take long either."""
    with open(os.path.join(bench.default, "config.json")) as file:
        stock = file.read()
    print(f"growth [ms]; -: the size before took more than {PATIENCE_S} s")
    print(f"  {'list':<18}{'n':>7}" + "".join(f"{runtime.name:>18}" for runtime in runtimes))
    figures = {}
    for number, (name, (place, value)) in enumerate(LISTS.items()):
        lines = figures[name] = {runtime.name: [] for runtime in runtimes}
        for size in SIZES:
            bundle = os.path.join(bench.work, f"growth-{number}-{size}")
            bundle_of(bundle, stock, os.path.join(bench.default, "rootfs"), place, value(size))
            cells = []
            for runtime in runtimes:
                line = lines[runtime.name]
                if line and line[-1][1] > PATIENCE_S * 1000:
                    cells.append("-")
                    continue
                taken, status = timed(runtime, bundle, lambda id, runtime=runtime: bench.remove(runtime, [id]))
                line.append((size, taken))
                cells.append(f"> {3 * PATIENCE_S} s" if status is None else f"{'' if status == 0 else 'refused '}{taken:.1f}")
            shutil.rmtree(bundle)
            # A peer that was killed half-way forgets its cgroup.
            remove_left_cgroups()
            print(f"  {name:<18}{size:>7}" + "".join(f"{cell:>18}" for cell in cells))
            sys.stdout.flush()
    if svg:
        with open(svg, "w") as file:
            file.write(picture(figures))


COLOURS = ("#0b6e4f", "#c8553d", "#3d5a98", "#c58b1b", "#7a4ea3")


def picture(figures):
    """Small panels, four in a row, one for each list."""
    width, height, left, top = 230, 170, 44, 26
    low, high = math.log10(1), math.log10(PATIENCE_S * 3000)
    first, last = math.log10(SIZES[0]), math.log10(SIZES[-1])

    def point(size, milliseconds):
        x = left + (math.log10(size) - first) / (last - first) * (width - left - 14)
        y = height - 24 - (math.log10(max(milliseconds, 1)) - low) / (high - low) * (height - 24 - top)
        return f"{x:.1f},{y:.1f}"

    names = list(next(iter(figures.values())))
    rows = -(-len(figures) // 4)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{4 * width}" height="{rows * height + 30}" '
           'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>']
    for at, name in enumerate(names):
        out.append(f'<rect x="{10 + at * 150}" y="8" width="12" height="12" fill="{COLOURS[at % 5]}"/>'
                   f'<text x="{27 + at * 150}" y="18">{name}</text>')
    for at, (title, lines) in enumerate(figures.items()):
        out.append(f'<g transform="translate({at % 4 * width},{at // 4 * height + 30})"><text x="{left}" y="16" font-weight="bold">{title}</text>')
        for power in range(0, 5):
            x, y = point(SIZES[0], 10 ** power).split(",")
            out.append(f'<line x1="{x}" x2="{width - 14}" y1="{y}" y2="{y}" stroke="#ddd"/>'
                       f'<text x="{left - 4}" y="{float(y) + 4:.1f}" text-anchor="end" fill="#666">{("1 ms", "10", "100", "1 s", "10")[power]}</text>')
        for size in SIZES:
            out.append(f'<text x="{point(size, 1).split(",")[0]}" y="{height - 8}" text-anchor="middle" fill="#666">{size // 1000}k</text>')
        out.append(f'<polyline points="{point(SIZES[0], 10)} {point(SIZES[-1], 10 * SIZES[-1] / SIZES[0])}" stroke="#bbb" fill="none" stroke-dasharray="3"/>')
        for line, colour in zip(lines.values(), COLOURS * 2):
            out.append(f'<polyline points="{" ".join(point(*one) for one in line)}" stroke="{colour}" stroke-width="1.6" fill="none"/>')
        out.append("</g>")
    return "\n".join([*out, "</svg>"]) + "\n"
