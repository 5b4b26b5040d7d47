import { expect, it } from 'vitest';
import { Frames } from '../src/lib/frames';

function kit() {
  const frames: (() => void)[] = [];
  const clock = { now: 0 };
  const drawn: string[] = [];
  const draw =
    (name: string, ms = 0) =>
    () => ((clock.now += ms), drawn.push(name));
  const made = new Frames(
    (work) => frames.push(work),
    () => clock.now,
  );
  const frame = () => frames.splice(0).forEach((work) => work());
  return { made, frame, frames, drawn, draw };
}

it('what is asked for many times is drawn once a frame, as it was asked last', () => {
  const { made, frame, frames, drawn, draw } = kit();
  const [a, b] = [{}, {}];
  made.draw(a, draw('a1'));
  made.draw(b, draw('b1'));
  made.draw(a, draw('a2'));
  expect(frames).toHaveLength(1);
  frame();
  expect(drawn).toEqual(['a2', 'b1']);
  expect(frames).toHaveLength(0);
});

it('what does not fit into a frame comes in the next, and nothing twice', () => {
  const { made, frame, drawn, draw } = kit();
  for (const name of 'abcd') made.draw({}, draw(name, 6));
  frame();
  expect(drawn).toEqual(['a', 'b']);
  frame();
  expect(drawn).toEqual(['a', 'b', 'c', 'd']);
});

it('what is cancelled is not drawn', () => {
  const { made, frame, drawn, draw } = kit();
  const a = {};
  made.draw(a, draw('a'));
  made.cancel(a);
  frame();
  expect(drawn).toEqual([]);
});
