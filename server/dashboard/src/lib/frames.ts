/** Draws at most once a frame, and no longer in one frame than leaves the page at ease. */

/** Of a frame's 16 ms. */
const BUDGET_MS = 10;

export class Frames {
  private readonly waiting = new Map<object, () => void>();
  private asked = false;

  constructor(
    private readonly request: (draw: () => void) => void = (draw) => requestAnimationFrame(draw),
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Draw in a frame to come; asked for again before that, the last one counts. */
  draw(owner: object, draw: () => void): void {
    this.waiting.set(owner, draw);
    this.ask();
  }

  cancel(owner: object): void {
    this.waiting.delete(owner);
  }

  private ask(): void {
    if (this.asked || !this.waiting.size) return;
    this.asked = true;
    this.request(() => this.work());
  }

  private work(): void {
    this.asked = false;
    const end = this.now() + BUDGET_MS;
    for (const [owner, draw] of this.waiting) {
      this.waiting.delete(owner);
      draw();
      if (this.now() >= end) break;
    }
    this.ask();
  }
}
