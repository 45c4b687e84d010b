/**
 * A reader of protobuf's wire format. It throws if the bytes are not a valid message.
 */
export class Reader {
  readonly bytes: Buffer
  position = 0

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  /** A number below 2^53. Throws if it is larger. */
  varint(): number {
    const bytes = this.bytes
    let byte = bytes[this.position++]!
    if (byte < 0x80) return byte
    let value = byte & 0x7f
    let factor = 0x80
    do {
      byte = bytes[this.position++]!
      value += (byte & 0x7f) * factor
      factor *= 0x80
    } while (byte >= 0x80)
    this.#checkEnd()
    if (!(value <= Number.MAX_SAFE_INTEGER)) throw new Error("a number has more than 53 bits")
    return value
  }

  /** An int64 that is small or negative. etcd's revisions will not reach 2^53. */
  int64(): number {
    const start = this.position
    let length = 1
    while (this.bytes[this.position++]! >= 0x80) length++
    this.position = start
    return length < 10 ? this.varint() : Number(this.bigint64())
  }

  /** An exact int64. */
  bigint(): bigint {
    const bytes = this.bytes
    let value = 0
    let factor = 1
    // Seven bytes hold at most 49 bits.
    for (let i = this.position, end = i + 7; i < end; i++, factor *= 0x80) {
      const byte = bytes[i]!
      value += (byte & 0x7f) * factor
      if (byte < 0x80) {
        this.position = i + 1
        return BigInt(value)
      }
    }
    return this.bigint64()
  }

  bigint64(): bigint {
    let value = 0n
    let shift = 0n
    let byte: number
    do {
      byte = this.bytes[this.position++]!
      value |= BigInt(byte & 0x7f) << shift
      shift += 7n
    } while (byte >= 0x80)
    this.#checkEnd()
    return BigInt.asIntN(64, value)
  }

  #checkEnd(): void {
    if (this.position > this.bytes.length) throw new Error("a number extends beyond its message")
  }

  /** Reads a length, and returns the position at which the data of this length ends. */
  end(): number {
    const length = this.varint()
    const end = this.position + length
    if (end > this.bytes.length) throw new Error("a field extends beyond its message")
    return end
  }

  skip(tag: number): void {
    switch (tag & 7) {
      case 0:
        while (this.bytes[this.position++]! >= 0x80);
        break
      case 1:
        this.position += 8
        break
      case 2:
        this.position = this.end()
        break
      case 5:
        this.position += 4
        break
      default:
        throw new Error("a field has an unknown wire type")
    }
  }
}
