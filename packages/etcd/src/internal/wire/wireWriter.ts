/**
 * A writer of protobuf's wire format, from the end to the beginning. A message is preceded by its length, which is then
 * already known. Callers must write fields in reverse order.
 */
export class Writer {
  #bytes = Buffer.allocUnsafe(512)
  /** The position at which the written bytes begin. */
  #start = this.#bytes.length

  /** How many bytes are written. */
  get length(): number {
    return this.#bytes.length - this.#start
  }

  /** Returns the written bytes as a copy, and starts again. */
  finish(): Buffer {
    const message = Buffer.from(this.#bytes.subarray(this.#start))
    // One large message must not occupy its memory indefinitely.
    if (this.#bytes.length > largest) this.#bytes = Buffer.allocUnsafe(largest)
    this.#start = this.#bytes.length
    return message
  }

  /** A non-negative number. */
  varint(value: number): void {
    if (value < 0x80) {
      this.#room(1)
      this.#bytes[--this.#start] = value
      return
    }
    let size = 1
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++
    this.#room(size)
    let at = this.#start -= size
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[at++] = rest % 0x80 | 0x80
    this.#bytes[at] = rest
  }

  /** An `int64`. */
  int64(value: bigint): void {
    if (value >= 0n && value <= Number.MAX_SAFE_INTEGER) return this.varint(Number(value))
    const groups: Array<number> = []
    let rest = BigInt.asUintN(64, value)
    for (; rest >= 0x80n; rest >>= 7n) groups.push(Number(rest & 0x7fn) | 0x80)
    groups.push(Number(rest))
    this.#room(groups.length)
    this.#start -= groups.length
    this.#bytes.set(groups, this.#start)
  }

  /** A field with text or bytes. */
  content(tag: number, value: string | Uint8Array): void {
    if (typeof value === "string") {
      const size = Buffer.byteLength(value)
      this.#room(size)
      this.#start -= size
      this.#bytes.write(value, this.#start, size === value.length ? "latin1" : "utf8")
      this.varint(size)
    } else {
      this.#room(value.length)
      this.#start -= value.length
      this.#bytes.set(value, this.#start)
      this.varint(value.length)
    }
    this.varint(tag)
  }

  /** An `int64` field, or nothing if the value is undefined. */
  int64Field(tag: number, value: bigint | undefined): void {
    if (value === undefined) return
    this.int64(value)
    this.varint(tag)
  }

  /** A field with a non-negative number. */
  number(tag: number, value: number): void {
    this.varint(value)
    this.varint(tag)
  }

  /** A flag field, or nothing if the flag is not set. */
  flag(tag: number, value: boolean | undefined): void {
    if (value === true) this.number(tag, 1)
  }

  /** A message field. The message is everything written since the length was `before`. */
  message(tag: number, before: number): void {
    this.varint(this.length - before)
    this.varint(tag)
  }

  #room(size: number): void {
    if (this.#start >= size) return
    const { length } = this
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, length + size))
    this.#bytes.copy(larger, larger.length - length, this.#start)
    this.#start = larger.length - length
    this.#bytes = larger
  }
}

const largest = 64 * 1024
