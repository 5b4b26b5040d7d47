/** The one cursor that all charts along an axis show, and the run that stands out in all of them. */

export interface At {
  /** The axis that it is on; see `axisOf`. */
  readonly axis: string;
  readonly x: number;
  /** The chart under the pointer. */
  readonly chart: object;
}

export class Cursor {
  at = $state.raw<At | null>(null);
  /** The run (or group, by its key) that stands out; null: none does. */
  lit = $state<string | null>(null);
  /** Whether it stays where it is, with all its values to be read and copied. */
  pinned = $state(false);

  move(at: At, lit: string | null): void {
    if (this.pinned) return;
    this.at = at;
    this.lit = lit;
  }

  leave(): void {
    if (this.pinned) return;
    this.at = null;
    this.lit = null;
  }

  /** Leave it where it is, or let it go again. */
  togglePin(): void {
    this.pinned = !this.pinned && this.at !== null;
  }

  release(): void {
    this.pinned = false;
    this.leave();
  }

  /** A run is pointed at elsewhere, in a list; null: no more. */
  light(run: string | null): void {
    this.lit = run;
  }
}
