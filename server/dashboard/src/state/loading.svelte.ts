/** Something that is asked of the service again whenever it may have changed: one request at a time, the newest wins. */
import { Problem } from '../api/client';

const RETRY_MS = 3_000;
const RETRY_MS_MAX = 60_000;

export class Loading {
  /** Whether an answer is awaited. */
  busy = $state(false);
  /** What went wrong with the last request, as a sentence; it is tried again if that can help. */
  problem = $state<string | null>(null);
  private under: AbortController | null = null;
  private again: (() => Promise<void>) | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private tries = 0;
  /** Whether the service said when to try again. */
  private told = false;

  /** Leave what is under way, and do this in its place. */
  replace(work: (signal: AbortSignal) => Promise<void>): void {
    this.cancel();
    void this.run(work);
  }

  /**
   * Do this when what is under way is done: asked for many times meanwhile, it is done once. What waits to be tried
   * again need not wait any longer, unless the service said how long.
   */
  follow(work: (signal: AbortSignal) => Promise<void>): void {
    this.again = () => this.run(work);
    if (!this.under && (this.timer === null || !this.told)) this.goOn();
  }

  cancel(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.under?.abort();
    this.timer = this.under = this.again = null;
    this.tries = 0;
    this.busy = false;
  }

  private async run(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const under = (this.under = new AbortController());
    this.busy = true;
    try {
      await work(under.signal);
      if (this.under !== under) return;
      this.problem = null;
      this.tries = 0;
    } catch (error) {
      if (this.under !== under || under.signal.aborted) return;
      this.problem = error instanceof Error ? error.message : String(error);
      this.retryLater(work, error);
    } finally {
      if (this.under === under) {
        this.under = null;
        this.busy = false;
      }
    }
    if (this.timer === null) this.goOn();
  }

  private retryLater(work: (signal: AbortSignal) => Promise<void>, error: unknown): void {
    if (!(error instanceof Problem)) throw error; // a fault of the page's own: the console shows it
    const helps = error.status === 0 || error.status === 408 || error.status === 429 || error.status >= 500;
    if (!helps) return;
    this.told = error.retryAfterS !== null;
    const wait = error.retryAfterS === null ? RETRY_MS * 2 ** this.tries++ : error.retryAfterS * 1000;
    this.again ??= () => this.run(work);
    this.timer = setTimeout(() => this.goOn(), Math.min(RETRY_MS_MAX, wait));
  }

  private goOn(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const again = this.again;
    this.again = null;
    if (again) void again();
  }
}
