"""The words of scale.md; its figures are those of scale_page.py."""

from __future__ import annotations

from story_watch import Rows


def told_measured(rows: Rows) -> str:
    """What the parts are, and what guie train said."""
    n = int(rows["look"]["n"])
    return f"""
    *look*, *train*, *index* and *queries* are the commands of a user on {n:,} small drawn images in {n // 20:,}
    folders; drawing is not counted. *queries* reads and embeds {rows["queries"]["n"]} photos, then searches with them.
    *rows* is the index alone, with random unit vectors (`search.py`): *nothing* is the process before it opens one,
    *one* opens it for a single query, *many* asks an open one. *pack* is one photograph on one core, *bytes of packed*
    {rows["bytes of packed"]["n"]} real photos of 224 px on one core. *list of packed* opens the table of all packed
    images. *pairs* finds the nearest of each of so many features among all of them. Memory is that of all processes of
    a command, or of the part's process, its libraries included. A load well above 2 means that other work ran. guie
    train said: {rows["train"]["note"]}
    """


RATES = """
Times are straight lines through the origin and the rows above; near-duplicates and merging are fitted by a n + b n^2 to
all their sizes, and what compares each image with each grows with n^2. *Memory, bytes an image* is what one process
holds for each further image.
"""
CARRIED = """
Memory is that of the process that holds the list of all images or joins the parts. An exact query reads all vectors: a
billion of them are {gb} GB, which a disk of {disk:.0f} GB/s reads in {seconds:.0f} s, and that holds for one query or a
thousand at once. int8 codes (`guie export`) are a quarter of it, binary ones a 32nd.
"""
LIMITS = """
Each line is the size at which a step no longer fits a machine with {memory} GB of memory, or takes longer than a day on
the measured one. What stands first breaks first.
"""
HELD = {
    "merge": "all rows of all manifests are pandas tables at once (`data/balance.py`)",
    "twins": "all hashes, their sort orders and the best twin of each (`data/duplicates.py`)",
    "train": "the list of packed images, in each process (`data/packed.py`); features are memory-mapped",
    "pairs": "all features, neighbours and the list (`own/features.py`, `own/found.py`)",
    "write": "table of all photos, known digests and the pool that is written (`search/update.py`)",
    "one": "table of paths, labels and digests (`search/store.py`); vectors are memory-mapped",
}
ROWS = (
    (
        "checks and packing (doors 01, 03)",
        "processes of one machine",
        "`--scheduler ADDRESS`: the workers of a dask.distributed cluster that sees the same folders. A shard is a "
        "task; the shards of a lost worker are done again",
    ),
    (
        "merge, balance, split (door 02)",
        "one process, all rows in memory",
        "not built. The rules order names by a hash, so dask.dataframe or a database can group the same way and write "
        "the tables that door 03 reads",
    ),
    (
        "near-duplicates (door 03, guie look)",
        "one process, all hashes in memory",
        "not built. Pairs of the six words of a hash are keys of a join in dask or Spark",
    ),
    (
        "features, backbone training",
        "one process",
        "`accelerate launch`: several processes and cards. Each extracts a slice of the rows; FSDP2 divides weights",
    ),
    ("guie look", "one machine", "not needed: look at a sample. Its score needs some thousand photos, not all"),
    ("PCA", "one process, one pass, constant memory", "not needed: a sample of a million rows fits as well"),
    (
        "search",
        "exact, one machine",
        "`guie export --photos` writes ids, float32, int8 and binary codes as parquet, for a vector store such as "
        "Milvus, Qdrant, LanceDB or Vespa. These search approximately: measure what they miss against guie search on a "
        "sample",
    ),
)


def hand_over() -> str:
    """The table of engines."""
    lines = ["| step | guie does it with | beyond |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in ROWS)])
