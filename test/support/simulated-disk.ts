import { basename, dirname } from 'node:path'
import type { FileOperations } from '../../src/foundation/audit/segments/file-operations.ts'

/** A sector: what a program reads of it, what is on the disk for certain, and what may be there instead. */
interface Sector {
  cached: Buffer
  durable: Buffer
  /** What was written since, or was under way when a sync failed: any of these may be on the disk, or none. */
  maybe: Buffer[]
  isDirty: boolean
}

interface File {
  readonly id: number
  sectors: Sector[]
  size: number
  durableSize: number
  maybeSizes: number[]
}

type NameChange =
  | { readonly kind: 'link'; readonly name: string; readonly file: File }
  | { readonly kind: 'remove'; readonly name: string }

/** Decides what survives; a number from 0 below `count`. */
export type Choose = (count: number) => number

/** Fails an operation of the disk. */
export interface Fault {
  /** The number of the operation, counted from the last start of the count. */
  readonly at: number
  readonly code: 'ENOSPC' | 'EIO'
  /** How many operations fail from there on. */
  readonly count: number
}

/**
 * A disk that loses what was not synced. At a power failure each sector of a file has the content of the last sync or of any write since,
 * independent of every other; the length is that of the last sync or any since; each change of a name since the last sync of the folder
 * has happened or not. When a sync fails, what it should have written counts as clean and may be lost for ever, as in Linux.
 */
export class SimulatedDisk implements FileOperations {
  readonly #sectorSize: number
  readonly #names = new Map<string, File>()
  #durableNames = new Map<string, File>()
  #changes: NameChange[] = []
  readonly #open = new Map<number, File>()
  readonly #folders = new Set<string>()
  #next = 1
  #operations = 0
  fault: Fault | undefined

  constructor(sectorSize: number) {
    this.#sectorSize = sectorSize
  }

  /** Counts operations from here. */
  plan(fault: Fault | undefined): void {
    this.#operations = 0
    this.fault = fault
  }

  /** The power fails, and comes back. */
  crash(choose: Choose): void {
    this.#open.clear()
    this.fault = undefined
    const names = new Map(this.#durableNames)
    for (const change of this.#changes) {
      if (choose(2) === 0) continue
      if (change.kind === 'link') names.set(change.name, change.file)
      else names.delete(change.name)
    }
    this.#changes = []
    this.#names.clear()
    for (const [name, file] of names) this.#names.set(name, file)
    this.#durableNames = names
    for (const file of new Set(names.values())) this.#settle(file, choose)
  }

  /** The bytes of a file as a program reads them. */
  contentOf(path: string): Buffer {
    const file = this.#at(path)
    return Buffer.concat(file.sectors.map(({ cached }) => cached)).subarray(0, file.size)
  }

  /** Changes bytes behind the back of all. */
  damage(path: string, byte: number, change: (value: number) => number): void {
    const file = this.#at(path)
    const sector = file.sectors[Math.floor(byte / this.#sectorSize)]!
    for (const content of [sector.cached, sector.durable])
      content[byte % this.#sectorSize] = change(content[byte % this.#sectorSize]!)
  }

  exists(path: string): boolean {
    return this.#folders.has(path) || this.#names.has(path)
  }
  makeFolder(path: string): void {
    this.#folders.add(path)
  }
  list(folder: string): string[] {
    return [...this.#names.keys()].filter((name) => dirname(name) === folder).map((name) => basename(name))
  }
  open(path: string, mode: 'create' | 'write' | 'read'): number {
    if (mode === 'create') {
      this.#step()
      const file: File = { id: this.#next++, sectors: [], size: 0, durableSize: 0, maybeSizes: [] }
      this.#names.set(path, file)
      this.#changes.push({ kind: 'link', name: path, file })
    }
    const descriptor = this.#next++
    this.#open.set(descriptor, this.#at(path))
    return descriptor
  }
  read(descriptor: number, into: Uint8Array, position: number): number {
    const file = this.#of(descriptor)
    const length = Math.max(0, Math.min(into.byteLength, file.size - position))
    for (let done = 0; done < length;) {
      const at = position + done
      const { cached } = file.sectors[Math.floor(at / this.#sectorSize)]!
      const part = cached.subarray(at % this.#sectorSize, (at % this.#sectorSize) + length - done)
      into.set(part, done)
      done += part.length
    }
    return length
  }
  write(descriptor: number, bytes: Uint8Array, position: number): void {
    const file = this.#of(descriptor)
    const problem = this.#problem()
    // A write that fails has written something of it: whole pages, as the kernel copies them under a lock.
    const half = Math.floor((position + bytes.byteLength / 2) / this.#sectorSize) * this.#sectorSize
    const length = problem === undefined ? bytes.byteLength : Math.max(0, half - position)
    this.#put(file, Buffer.from(bytes.subarray(0, length)), position)
    if (problem !== undefined) throw problem
  }
  sync(descriptor: number): void {
    const file = this.#of(descriptor)
    const problem = this.#problem()
    for (const sector of file.sectors) {
      if (!sector.isDirty) continue
      sector.isDirty = false
      if (problem !== undefined) continue
      sector.durable = Buffer.from(sector.cached)
      sector.maybe = []
    }
    if (problem !== undefined) throw problem
    file.durableSize = file.size
    file.maybeSizes = []
  }
  truncate(descriptor: number, length: number): void {
    this.#step()
    const file = this.#of(descriptor)
    const { size } = file
    if (length < size) this.#put(file, Buffer.alloc(size - length), length)
    file.size = length
    file.maybeSizes.push(length)
  }
  close(descriptor: number): void {
    this.#open.delete(descriptor)
  }
  stateOf(descriptor: number): { size: number; identity: string } {
    const { size, id } = this.#of(descriptor)
    return { size, identity: String(id) }
  }
  stateAt(path: string): { size: number; identity: string } | undefined {
    const file = this.#names.get(path)
    return file === undefined ? undefined : { size: file.size, identity: String(file.id) }
  }
  rename(from: string, to: string): void {
    this.#step()
    const file = this.#at(from)
    this.#names.delete(from)
    this.#names.set(to, file)
    this.#changes.push({ kind: 'remove', name: from }, { kind: 'link', name: to, file })
  }
  remove(path: string): void {
    this.#step()
    this.#names.delete(path)
    this.#changes.push({ kind: 'remove', name: path })
  }
  syncFolder(): void {
    this.#step()
    this.#durableNames = new Map(this.#names)
    this.#changes = []
  }

  #at(path: string): File {
    const file = this.#names.get(path)
    if (file === undefined) throw new Error(`ENOENT: ${path}`)
    return file
  }
  #of(descriptor: number): File {
    const file = this.#open.get(descriptor)
    if (file === undefined) throw new Error('EBADF')
    return file
  }
  #problem(): Error | undefined {
    const { fault } = this
    const number = this.#operations++
    return fault !== undefined && number >= fault.at && number < fault.at + fault.count
      ? new Error(`${fault.code}: simulated`)
      : undefined
  }
  #step(): void {
    const problem = this.#problem()
    if (problem !== undefined) throw problem
  }

  #put(file: File, bytes: Buffer, position: number): void {
    const empty = (): Sector => ({
      cached: Buffer.alloc(this.#sectorSize),
      durable: Buffer.alloc(this.#sectorSize),
      maybe: [],
      isDirty: false,
    })
    while (file.sectors.length * this.#sectorSize < position + bytes.length) file.sectors.push(empty())
    for (let done = 0; done < bytes.length;) {
      const at = position + done
      const sector = file.sectors[Math.floor(at / this.#sectorSize)]!
      const start = at % this.#sectorSize
      const part = bytes.subarray(done, done + this.#sectorSize - start)
      const cached = Buffer.from(sector.cached)
      part.copy(cached, start)
      sector.cached = cached
      sector.maybe.push(cached)
      sector.isDirty = true
      done += part.length
    }
    if (position + bytes.length > file.size) {
      file.size = position + bytes.length
      file.maybeSizes.push(file.size)
    }
  }

  #settle(file: File, choose: Choose): void {
    const sizes = [file.durableSize, ...file.maybeSizes]
    file.size = sizes[choose(sizes.length)]!
    file.durableSize = file.size
    file.maybeSizes = []
    for (const [at, sector] of file.sectors.entries()) {
      const versions = [sector.durable, ...sector.maybe]
      const content = Buffer.from(versions[choose(versions.length)]!)
      // What is behind the end of a file is read as zeros once it grows again.
      const end = Math.max(0, file.size - at * this.#sectorSize)
      if (end < this.#sectorSize) content.fill(0, end)
      file.sectors[at] = { cached: content, durable: Buffer.from(content), maybe: [], isDirty: false }
    }
    file.sectors.length = Math.ceil(file.size / this.#sectorSize)
  }
}
