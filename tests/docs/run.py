#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of README.md, docs/*.md and chaos/README.md, each as it stands there, against real processes: a page's in order, in
a world of their own (doc_world.py). Fails for a command that does, for one that is neither run nor marked with a reason
(doc_blocks.py), and for JSON, YAML and the like that those who it is for do not take (doc_checks.py).

usage: run.py [--root FOLDER] [--list] [PAGE...]"""
import argparse
import os
import sys
import time

import doc_blocks
import doc_checks
import doc_world
import jr_procs as jr


def list_marks(blocks):
    for b in blocks:
        if b.mark is not None:
            print("%-28s %s\n%-28s   %s" % (b.where, b.mark, "", b.commands()[0][1].splitlines()[0]))


class Run:
    def __init__(self):
        self.ran, self.left_out, self.wrong = 0, 0, []

    def page(self, world, name, blocks):
        """Until its first command that fails: those behind it may need what it should have done."""
        began, before = time.monotonic(), self.ran
        page = None
        try:
            page = doc_world.Page(world, name)
            for block in blocks:
                for line, command, prints in block.commands():
                    self.command(page, line, command, prints)
            page.end()
        except (doc_world.Failed, jr.Failed) as e:
            self.wrong.append("%s: %s" % (name if page is None else page.where, e))
        finally:
            for p in page.servers if page else []:
                p.kill()
                world.procs.all.remove(p)
        print("%-32s %3d commands, %.1f s" % (name, self.ran - before, time.monotonic() - began), flush=True)

    def command(self, page, line, command, prints):
        page.where = "%s:%d" % (page.name, line)
        lacking = doc_world.lacks(command)
        if lacking:
            self.left_out += 1
            print("%s: not run here: %s: %s" % (page.where, lacking, command.splitlines()[0]))
            return
        page.run(command, prints)
        self.ran += 1


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--root", default=jr.ROOT, help="of the tree whose pages are read")
    p.add_argument("--list", action="store_true", help="what is marked, and why, and no more")
    p.add_argument("pages", nargs="*", help="README.md docs/operations.md ... (all)")
    return p.parse_args()


def main():
    args = arguments()
    run, pages = Run(), {}
    for name in args.pages or doc_blocks.pages(args.root):
        pages[name], wrong = doc_blocks.read_page(args.root, name)
        run.wrong += wrong
    blocks = [b for of_page in pages.values() for b in of_page]
    marked = sum(b.mark is not None for b in blocks)
    if args.list:
        list_marks(blocks)
        return 0
    for b in blocks:
        said = doc_checks.check(b)
        if said:
            run.wrong.append("%s: %s" % (b.where, said))
    with jr.Procs(doc_world.program_path()) as procs:
        world = None
        for name, of_page in pages.items():
            to_run = [b for b in of_page if b.runs]
            if to_run:
                world = world or doc_world.World(procs)
                run.page(world, name, to_run)
    for what in run.wrong:
        print("\n" + what, file=sys.stderr)
    left = ", %d left out for what this machine lacks" % run.left_out if run.left_out else ""
    print("%d commands run, %d marked%s%s" % (run.ran, marked, left, ", %d wrong" % len(run.wrong) if run.wrong else ""))
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
