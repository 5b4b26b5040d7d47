/** News that are held back: which runs changed meanwhile, or that anything may have. */

/** Runs that changed and that were deleted; null: anything may have. */
export type News = { readonly runs: readonly string[]; readonly deleted: readonly string[] } | null;

/** Beyond so many runs it is no matter which: all is asked for again. */
const RUNS_MAX = 2_000;

export class Held {
  private changed = new Set<string>();
  private deleted = new Set<string>();
  private anything = false;

  /** How many runs changed; null: anything may have. */
  get count(): number | null {
    return this.anything ? null : this.changed.size + this.deleted.size;
  }

  add(news: News): void {
    if (news === null) this.anything = true;
    for (const run of news?.runs ?? []) {
      this.changed.add(run);
      this.deleted.delete(run);
    }
    for (const run of news?.deleted ?? []) {
      this.changed.delete(run);
      this.deleted.add(run);
    }
    if (this.changed.size + this.deleted.size > RUNS_MAX) this.anything = true;
    if (!this.anything) return;
    this.changed.clear();
    this.deleted.clear();
  }

  /** All of it as one piece of news, if there is any; nothing is held then. */
  take(): News | undefined {
    const news = this.anything ? null : { runs: [...this.changed], deleted: [...this.deleted] };
    const any = this.count !== 0;
    [this.changed, this.deleted, this.anything] = [new Set(), new Set(), false];
    return any ? news : undefined;
  }
}
