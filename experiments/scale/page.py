"""The figures as a page, with what they mean: what breaks first, and what to do then."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One figure.

    Attributes:
      value, most: the number that has a goal, and the most that it may be; None where nothing was hoped for.
    """

    name: str
    what: str
    figure: str
    value: float | None = None
    most: float | None = None

    @property
    def goal(self) -> str:
        if self.value is None or self.most is None:
            return ""
        return f"at most {self.most:g}: {'met' if self.value <= self.most else 'missed'}"


def page(lines: Sequence[Line], command: str) -> str:
    """The write-up as Markdown; all of its figures of time and size are in the table."""
    rows = "\n".join(f"| {line.what} | {line.figure} | {line.goal} |" for line in lines)
    return f"""# What does a study of a million trials cost?

```bash
{command} publish=experiments/scale
```

The rows are made up, and everything else is real: the default study on a larger grid is expanded, described and
written by the code that runs studies, with repeated, interrupted, diverged and torn rows among the others; then each
step runs in a process of its own. Training is not in it.

| what | figure | goal |
| --- | --- | --- |
{rows}

## The plan

1. Split the study by an axis that sources do not depend on, or by replicate, into as many shares as there are
   processes. All write to one `out` and one `cache`; each process appends to a file of its own.
2. Let one process train the source nets first (any slice of the study with all sources and replicates), or let each
   share have replicates of its own: a source net is shared by all trials of its replicate.
3. Make the report once, at the end or when there is something to see: `python -m convtl.report out=...`. It reads
   every row, and needs none of the data.

**Rows** are kept as text, one line each; nothing but the row is needed to go on after a kill. **Memory** of a report
goes with the trials: numbers as arrays, equal words once. Lists of rates and classes stay packed. **The record** names
every trial; with more than 5,000 these stand in a table beside it. **The cache** holds one net for each source, target
class draw and replicate, not for each trial: multiply a net's size above by sources and replicates. Features are
kept for nets that are the same in every replicate (imported ones): multiply the size of an image's features by the
images of the domain, once for each boundary; those of small source nets are computed again, in memory.

## What breaks first, and what to do then

In this order:

1. *Whoever opens results.csv in a spreadsheet.* Excel stops at 1,048,576 lines, silently
   ([limits](https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3)).
   Read it with pandas, and only the columns that are needed.
2. *The reader of the report.* With more than 12 settings (net, regime, schedule, target) only the first four are
   drawn; the tables have all. Ask a study of many settings declared claims (`scorecard`), or make several studies of
   it, each with its own `out`.
3. *Exact tests.* Up to 20 replicates all flips of signs are counted, which takes longest with 15 to 20; beyond, flips
   are drawn once for all contrasts. With a million trials take 12 replicates or more than 20.
4. *Looking for what is finished.* A process looks before each claim; sizes of all files are asked for, and only those
   that grew are opened. On a network file system each size is a question to the server (or an answer that is up to
   `acregmax`, 60 s, old: [nfs(5)](https://man7.org/linux/man-pages/man5/nfs.5.html)), so that a trial may be run
   twice; the first row counts, and the table is the same. With thousands of writers give each share its own trials
   (they then hardly ever wait for each other), or its own `out`, and join these with `rows_from`.
   A process that W&B follows also reads all rows once, at its end: leave `tracking` to few of them.
5. *Claims.* They are POSIX record locks in one file, which the kernel keeps in a list: the table shows what a claim
   costs while others hold many. A process holds no more than its batch. On NFS the server has to do locks, on Lustre
   the clients have to be mounted with `flock`, since `localflock` reaches one node only
   ([manual](https://doc.lustre.org/lustre_manual.xhtml)); on a file system without locks claims are leases with
   a heartbeat, for which a process that was killed is waited for a minute.
6. *A file of rows that two hosts share* would be damaged: NFS has no atomic append
   ([open(2)](https://man7.org/linux/man-pages/man2/open.2.html)). It does not happen: a file's name holds host,
   process and a random part.
7. *Memory of a report*, which goes with the trials: several studies, each with its own `out`, or a larger machine.

Every row is flushed to disk (`fsync`) before its claim is given back. Where that is slow, it is felt by trials of a few
milliseconds only.
"""
