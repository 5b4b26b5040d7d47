/** Lets so many tasks run at once; the others wait in order. */
export class Gate {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly atOnceMax: number) {}

  /** Run a task when there is room; if the signal says so meanwhile, it is never begun. */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.running >= this.atOnceMax) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running++;
    try {
      signal?.throwIfAborted();
      return await task();
    } finally {
      const next = this.waiting.shift(); // its place goes on to the next
      if (next) next();
      else this.running--;
    }
  }
}
