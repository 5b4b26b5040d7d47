/** Shows an element above all others, below the one before it, until something else is pressed or Escape is. */

const GAP = 4;

/** An attachment for an element that exists only while it is open; `close` has to take it away. */
export function below(close: () => void) {
  return (element: HTMLElement) => {
    const opener = element.previousElementSibling;
    element.popover = 'auto';
    element.showPopover();
    if (opener) place(element, opener.getBoundingClientRect());
    const first =
      element.querySelector<HTMLElement>('[aria-pressed="true"]') ?? element.querySelector('button');
    first?.focus();
    const toggled = (event: Event) => {
      if ((event as ToggleEvent).newState === 'closed') close();
    };
    // A press on the opener would close it first, and then open it again.
    const pressed = (event: Event) => event.preventDefault();
    opener?.addEventListener('pointerdown', pressed);
    element.addEventListener('toggle', toggled);
    return () => {
      opener?.removeEventListener('pointerdown', pressed);
      element.removeEventListener('toggle', toggled);
      if (element.contains(document.activeElement) && opener instanceof HTMLElement) opener.focus();
    };
  };
}

function place(element: HTMLElement, beside: DOMRect): void {
  const { width, height } = element.getBoundingClientRect();
  const left = Math.max(GAP, Math.min(beside.left, innerWidth - width - GAP));
  const fits = beside.bottom + GAP + height <= innerHeight;
  const top = fits ? beside.bottom + GAP : Math.max(GAP, beside.top - GAP - height);
  element.style.left = `${left}px`;
  element.style.top = `${top}px`;
}
