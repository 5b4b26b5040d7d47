/** The view as the page shows it, kept in step with the URL. */
import { DEFAULT, formatView, parseView, type View } from '../lib/view';

/** Browsers take about a hundred changes of the URL in half a minute; a slider makes more. */
const WRITE_MS = 400;

export class ViewState {
  /** The view itself; replaced as a whole by `update`. */
  current = $state.raw<View>(DEFAULT);
  /** What of the URL was ignored, in sentences; `dismiss` empties it. */
  notices = $state.raw<readonly string[]>([]);
  private writing: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly window: Window) {
    this.read();
  }

  /** Follow the URL (back, forward, edits of it) until the returned function is called. */
  follow(): () => void {
    const read = () => this.read();
    const write = () => this.write();
    this.window.addEventListener('popstate', read);
    this.window.addEventListener('pagehide', write);
    return () => {
      this.window.removeEventListener('popstate', read);
      this.window.removeEventListener('pagehide', write);
      this.write();
    };
  }

  /** Change some of the view; what is given as it is already changes nothing. */
  update(changes: Partial<View>): void {
    const next = { ...this.current, ...changes };
    if (formatView(next) === formatView(this.current)) return;
    this.current = next;
    this.writing ??= setTimeout(() => this.write(), WRITE_MS);
  }

  dismiss(): void {
    this.notices = [];
  }

  private read(): void {
    if (this.writing !== null) clearTimeout(this.writing);
    this.writing = null;
    const { view, notices } = parseView(this.window.location.search);
    this.current = view;
    this.notices = notices;
  }

  private write(): void {
    if (this.writing === null) return;
    clearTimeout(this.writing);
    this.writing = null;
    const { pathname, hash } = this.window.location;
    this.window.history.replaceState(null, '', `${pathname}${formatView(this.current)}${hash}`);
  }
}
