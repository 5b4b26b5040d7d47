/** What people change about runs: archive, names, notes, tags; each said when it is done, with a way back. */
import { Problem, type Client, type RunPatch } from '../api/client';
import { Gate } from '../lib/gate';
import type { Toasts } from './toasts.svelte';

const AT_ONCE_MAX = 3;

export class Edits {
  /** How many runs are still to be changed. */
  left = $state(0);
  private readonly gate = new Gate(AT_ONCE_MAX);

  constructor(
    private readonly client: Client,
    private readonly toasts: Toasts,
    /** Told when runs were changed from here, before the service tells of them. */
    private readonly done: (runs: readonly string[]) => void,
    /** Told besides which runs were archived, or brought back. */
    private readonly archived: (runs: readonly string[], archived: boolean) => void,
  ) {}

  /** Archive runs, or bring them back. */
  async archive(runs: readonly string[], archived: boolean): Promise<void> {
    const done = await this.setArchived(runs, archived);
    if (!done.length) return;
    const said = `${counted(done.length)} ${archived ? 'archived' : 'brought back'}.`;
    this.toasts.say(said, () => void this.setArchived(done, !archived));
  }

  /** Change one run; `before` is what undoes it. Whether it was changed. */
  async change(run: string, changes: RunPatch, before: RunPatch, said: string): Promise<boolean> {
    const done = await this.patchAll([run], changes);
    if (done.length) this.toasts.say(said, () => void this.patchAll([run], before));
    return done.length > 0;
  }

  private async setArchived(runs: readonly string[], archived: boolean): Promise<string[]> {
    const done = await this.patchAll(runs, { archived });
    if (done.length) this.archived(done, archived);
    return done;
  }

  /** The runs that were changed; what went wrong with others is said once. */
  private async patchAll(runs: readonly string[], changes: RunPatch): Promise<string[]> {
    this.left += runs.length;
    const faults: Problem[] = [];
    const patched = await Promise.all(runs.map((run) => this.patchOne(run, changes, faults)));
    const done = runs.filter((_, i) => patched[i]);
    if (faults.length)
      this.toasts.complain(`${counted(faults.length)} could not be changed: ${faults[0]!.message}`);
    if (done.length) this.done(done);
    return done;
  }

  private async patchOne(run: string, changes: RunPatch, faults: Problem[]): Promise<boolean> {
    try {
      await this.gate.run(() => this.client.patch(run, changes), new AbortController().signal);
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      faults.push(error);
      return false;
    } finally {
      this.left--;
    }
  }
}

function counted(runs: number): string {
  return runs === 1 ? '1 run' : `${runs} runs`;
}
