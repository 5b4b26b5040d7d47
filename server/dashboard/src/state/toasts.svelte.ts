/** What was done, said for a while, with a way to undo it. */

export interface Toast {
  readonly id: number;
  readonly text: string;
  /** Whether something went wrong. */
  readonly bad: boolean;
  readonly undo: (() => void) | null;
}

const SHOWN_MS = 12_000;
const TOASTS_MAX = 4;

export class Toasts {
  /** Oldest first. */
  shown = $state.raw<readonly Toast[]>([]);
  /** How many dialogs lie above the page: only what is in the topmost can be seen and pressed. */
  above = $state(0);
  private next = 1;
  private readonly timers = new Map<number, ReturnType<typeof setTimeout>>();

  /** A dialog opens: how many there are now. */
  rise(): number {
    return ++this.above;
  }

  /** A dialog closes. */
  sink(): void {
    this.above--;
  }

  say(text: string, undo: (() => void) | null = null): void {
    this.add({ id: this.next++, text, bad: false, undo });
  }

  complain(text: string): void {
    this.add({ id: this.next++, text, bad: true, undo: null });
  }

  undo(toast: Toast): void {
    this.dismiss(toast);
    toast.undo?.();
  }

  dismiss({ id }: Toast): void {
    this.stop(id);
    this.shown = this.shown.filter((toast) => toast.id !== id);
  }

  /** Somebody is about to press it: it stays. */
  hold({ id }: Toast): void {
    this.stop(id);
  }

  /** It goes after a while. */
  release(toast: Toast): void {
    this.stop(toast.id);
    const timer = setTimeout(() => this.dismiss(toast), SHOWN_MS);
    this.timers.set(toast.id, timer);
  }

  private add(toast: Toast): void {
    this.shown = [...this.shown, toast].slice(-TOASTS_MAX);
    this.release(toast);
  }

  private stop(id: number): void {
    clearTimeout(this.timers.get(id));
    this.timers.delete(id);
  }
}
