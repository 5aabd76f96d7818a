"""Compares the loader with PyTorch's DataLoader on the same shards, in the same run.

    cargo build -p dml-data --example loader
    python loader.py --clips data/ucf101 --images data/voc2007 --loader target/debug/examples/loader

needs torch, torchvision, webdataset and numpy. Every way of reading does the same: decode, crop at random, mirror, blue
first, f32 minus the mean, batches of 16 clips or 64 images, two workers. One epoch is read first, then whole epochs until
the time is over. Memory is the peak over all processes of anonymous and shared pages (file-mapped pages are the page
cache's); numbers are medians over rounds in which the ways take turns.
"""
import argparse, json, mmap, os, statistics, subprocess, sys, threading, time

SIZE = {"clips": 112, "images": 224}
BATCH = {"clips": 16, "images": 64}
MEAN = {"clips": (90.25, 97.66, 101.41), "images": (103.939, 116.779, 123.68)}


def samples(directory, kind):
    """(shard, spans) of each sample of the part that is read."""
    index = json.load(open(os.path.join(directory, "shards", "index.json")))
    wanted = set(wanted_videos(directory, kind))
    found = []
    for shard in index["shards"]:
        path = os.path.join(directory, "shards", shard["file"])
        data = open(path, "rb").read()
        for sample in shard["samples"]:
            at, length, _ = sample["meta"]
            if json.loads(data[at : at + length])["video"] in wanted:
                found.append((path, [(at, length) for at, length, _ in sample["frames"]]))
    return found


def wanted_videos(directory, kind):
    if kind == "images":
        return open(os.path.join(directory, "ImageSets/Main/train.txt")).read().split()
    lines = open(os.path.join(directory, "ucfTrainTestlist/trainlist01.txt")).read().splitlines()
    return [line.split()[0] for line in lines]


def run_torch(way, kind, directory, workers, seconds):
    import numpy, torch
    from torch.utils.data import DataLoader, Dataset
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.functional import resize

    size, batch = SIZE[kind], BATCH[kind]
    mean = torch.tensor(MEAN[kind]).view(3, 1, 1, 1)

    def finish(frames):
        """(frames, 3, height, width) uint8, red first -> (3, frames, size, size) f32, blue first."""
        if kind == "images" and min(frames.shape[2:]) != 256:
            frames = resize(frames, 256)
        last = kind == "images"  # clips are never cropped at the last place
        top = torch.randint(frames.shape[2] - size + last, ()).item()
        left = torch.randint(frames.shape[3] - size + last, ()).item()
        frames = frames[:, :, top : top + size, left : left + size]
        if torch.rand(()).item() < 0.5:
            frames = frames.flip(3)
        frames = frames.permute(1, 0, 2, 3).flip(0).float().sub_(mean)
        return frames if kind == "clips" else frames[:, 0]

    def decode(files):
        return torch.stack([decode_jpeg(file, mode=ImageReadMode.RGB) for file in files])

    class Shards(Dataset):
        def __init__(self):
            self.samples, self.maps = samples(directory, kind), {}

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, i):
            path, spans = self.samples[i]
            if path not in self.maps:
                self.maps[path] = numpy.memmap(path, mode="r")
            data = self.maps[path]
            return finish(decode([torch.from_numpy(data[at : at + n].copy()) for at, n in spans]))

    count = len(samples(directory, kind))
    if way == "torchvision":
        loader = DataLoader(Shards(), batch, shuffle=True, num_workers=workers, persistent_workers=True)
    else:
        import webdataset

        names = sorted(n for n in os.listdir(os.path.join(directory, "shards")) if n.endswith(".tar"))
        urls = [os.path.join(directory, "shards", name) for name in names]
        wanted = set(wanted_videos(directory, kind))

        def read(sample):
            files = [sample[key] for key in sorted(sample) if key.endswith(".jpg")]
            return finish(decode([torch.frombuffer(bytearray(f), dtype=torch.uint8) for f in files]))

        data = (
            webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
            .select(lambda sample: json.loads(sample["json"])["video"] in wanted)
            .shuffle(100)
            .map(read)
            .batched(batch, collation_fn=torch.stack)
        )
        loader = webdataset.WebLoader(data, batch_size=None, num_workers=workers, persistent_workers=True)
    epoch = 0
    while epoch <= 1 or time.time() - start < seconds:
        if epoch == 1:
            start, total = time.time(), 0
        for tensors in loader:
            if epoch:
                total += len(tensors)
        epoch += 1
    assert total == count * (epoch - 1), (total, count, epoch)
    print(f"{total / (time.time() - start):.1f}")


def memory(root):
    """Anonymous and shared memory of a process and its descendants, in MB."""
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]
            children.setdefault(int(parent), []).append(int(pid))
        except OSError:
            pass
    total, queue = 0, [root]
    while queue:
        pid = queue.pop()
        queue += children.get(pid, [])
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total / 1024


def measure(command):
    """What the command prints, a number, and its peak memory."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0

    def watch():
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.communicate()[0]
    watcher.join()
    if process.returncode:
        sys.exit(f"{command} failed")
    return float(output), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", help="folder of a prepared UCF101")
    parser.add_argument("--images", help="folder of a prepared VOC")
    parser.add_argument("--loader", default="target/debug/examples/loader")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--seconds", default="4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", nargs=2, metavar=("WAY", "KIND"), help="run one way alone")
    options = parser.parse_args()
    if options.torch:
        way, kind = options.torch
        return run_torch(way, kind, getattr(options, kind), int(options.workers), float(options.seconds))
    for kind in ("clips", "images"):
        directory = getattr(options, kind)
        if not directory:
            continue
        torch_command = [sys.executable, __file__, f"--{kind}", directory, "--workers", options.workers]
        torch_command += ["--seconds", options.seconds, "--torch"]
        ways = {
            "dml-data": [options.loader, kind, directory, options.workers, options.seconds],
            "torchvision": torch_command + ["torchvision", kind],
            "webdataset": torch_command + ["webdataset", kind],
        }
        found = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, command in ways.items():
                found[way].append(measure(command))
        rates = {way: statistics.median(rate for rate, _ in runs) for way, runs in found.items()}
        for way, runs in found.items():
            ratio = rates["dml-data"] / rates[way]
            print(
                f"{kind:7}{way:12}{rates[way]:9.1f}/s  ({min(runs)[0]:.1f} to {max(runs)[0]:.1f})"
                f"  peak {max(peak for _, peak in runs):6.0f} MB  dml-data is {ratio:.2f} x",
                flush=True,
            )


main()
