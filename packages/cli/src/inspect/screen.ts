/**
 * A live screen: it fills the terminal, is drawn again after each change, and leaves the terminal as it was.
 *
 * It uses the terminal's alternate screen, so the previous content is restored afterwards. q, Esc and Ctrl-C end it.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import { writeSync } from "node:fs"
import { truncate } from "./cells.ts"

/** A line of a screen. `Alarm` stands out. */
export interface Line {
  readonly text: string
  readonly style?: "Title" | "Alarm" | undefined
}

/** What a screen shows. The body scrolls if it is longer than the screen. */
export interface Frame {
  readonly head: ReadonlyArray<Line>
  readonly body: ReadonlyArray<Line>
  readonly foot: ReadonlyArray<Line>
}

/** Alternate screen, no cursor, no wrapping of long lines: and the reverse. */
const enter = "\x1b[?1049h\x1b[?25l\x1b[?7l"
const leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
const home = "\x1b[H"
const clearLine = "\x1b[K"
const clearBelow = "\x1b[J"
const styles = { Title: "\x1b[1m", Alarm: "\x1b[7m" }
const plain = "\x1b[0m"

/** Not every terminal says how large it is. */
const orUnknown = ({ columns, rows }: Terminal.Size): Terminal.Size => ({ columns: columns || 80, rows: rows || 24 })

/** The least time between two drawings, so that a busy store does not keep the terminal busy. */
const pause = "50 millis"

/**
 * Shows what `frame` returns for a width until the person ends it. It is drawn again when `changed` has something, when
 * the terminal's size changes, and every second.
 */
export const run = (
  frame: (columns: number) => Effect.Effect<Frame>,
  changed: Queue.Dequeue<void>
): Effect.Effect<void, never, Terminal.Terminal | Stdio.Stdio> =>
  Effect.scoped(Effect.gen(function*() {
    const terminal = yield* Terminal.Terminal
    const events = yield* Queue.sliding<Event>(64)
    yield* onScreen(terminal)
    const sizes = yield* terminal.size
    yield* forward(sizes, events, ({ columns, rows }): Event => ({ _tag: "Size", columns, rows }))
    yield* forward(changed, events, (): Event => ({ _tag: "Draw" }))
    yield* Effect.forkScoped(
      Effect.forever(Effect.andThen(Effect.sleep("1 second"), Queue.offer(events, { _tag: "Draw" })))
    )
    yield* forwardKeys(terminal, events)
    yield* draw(terminal, frame, events)
  }))

type Event =
  | { readonly _tag: "Draw" }
  | { readonly _tag: "Quit" }
  | { readonly _tag: "Size"; readonly columns: number; readonly rows: number }
  | { readonly _tag: "Scroll"; readonly by: (page: number) => number }

const onScreen = (terminal: Terminal.Terminal): Effect.Effect<void, never, Scope.Scope> =>
  Effect.suspend(() => {
    // A process that ends without running its finalizers must not leave the terminal without a cursor.
    const restore = () => {
      try {
        writeSync(1, leave)
      } catch {
        // The terminal is gone.
      }
    }
    return Effect.acquireRelease(
      Effect.andThen(Effect.sync(() => process.once("exit", restore)), Effect.ignore(terminal.display(enter))),
      () => Effect.andThen(Effect.ignore(terminal.display(leave)), Effect.sync(() => process.off("exit", restore)))
    )
  })

const forward = <A>(
  from: Queue.Dequeue<A, unknown>,
  to: Queue.Queue<Event>,
  as: (value: A) => Event
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(Effect.forkScoped(
    Effect.ignore(Effect.forever(Effect.flatMap(Queue.take(from), (value) => Queue.offer(to, as(value)))))
  ))

/** Without a terminal to read keys from, only a signal ends the screen. */
const forwardKeys = Effect.fnUntraced(function*(terminal: Terminal.Terminal, to: Queue.Queue<Event>) {
  const stdio = yield* Stdio.Stdio
  if (!(yield* stdio.stdinIsTerminal)) return
  const keys = yield* terminal.readInput
  yield* Effect.forkScoped(
    Effect.ignore(Effect.forever(Effect.flatMap(Queue.take(keys), (input) =>
      Option.match(eventOf(input), {
        onNone: () => Effect.void,
        onSome: (event) => Queue.offer(to, event)
      })))).pipe(
        // The terminal's own keys for the end: Esc, Ctrl-C, Ctrl-D, and its disappearance.
        Effect.ensuring(Queue.offer(to, { _tag: "Quit" }))
      )
  )
})

const eventOf = ({ key: { name } }: Terminal.UserInput): Option.Option<Event> => {
  const by = scrolling[name]
  return name === "q"
    ? Option.some({ _tag: "Quit" })
    : by === undefined
    ? Option.none()
    : Option.some({ _tag: "Scroll", by })
}

const scrolling: Readonly<Record<string, (page: number) => number>> = {
  up: () => -1,
  k: () => -1,
  down: () => 1,
  j: () => 1,
  pageup: (page) => -page,
  pagedown: (page) => page,
  space: (page) => page,
  home: () => -Infinity,
  end: () => Infinity
}

/** Draws after each event, until the person quits. */
const draw = Effect.fnUntraced(function*(
  terminal: Terminal.Terminal,
  frame: (columns: number) => Effect.Effect<Frame>,
  events: Queue.Queue<Event>
) {
  let size = orUnknown({ columns: yield* terminal.columns, rows: yield* terminal.rows })
  let offset = 0
  while (true) {
    const { body, foot, head } = yield* frame(size.columns)
    const page = Math.max(0, size.rows - head.length - foot.length)
    offset = Math.max(0, Math.min(offset, body.length - page))
    const lines = fit(size, head, body.slice(offset, offset + page), [
      ...foot.slice(0, -1),
      ...position(foot, offset, page, body)
    ])
    // A terminal that is gone ends the process by a signal.
    yield* Effect.ignore(terminal.display(lines))
    yield* Effect.sleep(pause)
    for (const event of yield* Queue.takeAll(events)) {
      switch (event._tag) {
        case "Quit":
          return
        case "Size":
          size = orUnknown(event)
          break
        case "Scroll":
          offset = Math.max(0, Math.min(offset + event.by(page), body.length - page))
          break
        case "Draw":
          break
      }
    }
  }
})

/** The last line at the foot, and which part of the body is visible if that is not all of it. */
const position = (
  foot: ReadonlyArray<Line>,
  offset: number,
  page: number,
  body: ReadonlyArray<Line>
): ReadonlyArray<Line> =>
  foot.slice(-1).map((line) =>
    body.length <= page ? line : {
      ...line,
      text: `${offset + 1}-${Math.min(offset + page, body.length)} of ${body.length}, arrows scroll. ${line.text}`
    }
  )

/** The whole screen as one text. The foot is at the bottom. */
const fit = (
  { columns, rows }: Terminal.Size,
  head: ReadonlyArray<Line>,
  body: ReadonlyArray<Line>,
  foot: ReadonlyArray<Line>
): string => {
  const empty = Array.from(
    { length: Math.max(0, rows - head.length - body.length - foot.length) },
    (): Line => ({ text: "" })
  )
  const lines = [...head, ...body, ...empty, ...foot].slice(0, rows)
  return home + lines.map(({ style, text }) => {
    const cut = truncate(text, columns)
    return `${style === undefined ? cut : `${styles[style]}${cut}${plain}`}${clearLine}`
  }).join("\r\n") + clearBelow
}
