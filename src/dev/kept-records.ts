/** What a provider of the world knows of its users' sessions, grants and tokens. In a folder that is kept it outlives the process. */
import { readFile } from 'node:fs/promises'
import type { Adapter, AdapterPayload } from 'oidc-provider'
import { z } from 'zod'
import type { Clock } from '#clock'
import { toSeconds } from '#clock'
import { replaceFile } from '#foundation/files'

const recordSchema = z.object({ payload: z.record(z.string(), z.unknown()), expires: z.number().nullable() })
const recordsSchema = z.record(z.string(), recordSchema)
type KeptRecord = z.output<typeof recordSchema>

/** Records by the name of their kind and their id. One that has expired is not found. */
export class KeptRecords {
  readonly #records: Map<string, KeptRecord>
  readonly #path: string | undefined
  readonly #clock: Clock
  #writing: Promise<void> | undefined
  #isChanged = false

  private constructor(records: Map<string, KeptRecord>, path: string | undefined, clock: Clock) {
    this.#records = records
    this.#path = path
    this.#clock = clock
  }

  /** @param path the file; undefined: in memory alone. A file that cannot be read counts as empty */
  static async open(path: string | undefined, clock: Clock): Promise<KeptRecords> {
    const text = path === undefined ? '{}' : await readFile(path, 'utf8').catch(() => '{}')
    let parsed: unknown
    try {
      parsed = JSON.parse(text)
    } catch {
      parsed = {}
    }
    return new KeptRecords(new Map(Object.entries(recordsSchema.safeParse(parsed).data ?? {})), path, clock)
  }

  find(kind: string, id: string): Record<string, unknown> | undefined {
    const record = this.#records.get(`${kind}:${id}`)
    return record === undefined || this.#isOver(record) ? undefined : record.payload
  }

  /** @param seconds its lifetime; undefined: no end */
  put(kind: string, id: string, payload: Record<string, unknown>, seconds?: number): void {
    const expires = seconds === undefined ? null : this.#clock.now() + seconds * 1000
    this.#records.set(`${kind}:${id}`, { payload, expires })
    this.#change()
  }

  /** Removes the records that `matches` accepts. */
  remove(matches: (key: string, payload: Record<string, unknown>) => boolean): void {
    for (const [key, { payload }] of this.#records) if (matches(key, payload)) this.#records.delete(key)
    this.#change()
  }

  /** @returns the payload of the record of that kind with such a member */
  findBy(kind: string, member: string, value: string): Record<string, unknown> | undefined {
    for (const [key, record] of this.#records)
      if (key.startsWith(`${kind}:`) && record.payload[member] === value && !this.#isOver(record)) return record.payload
    return undefined
  }

  /** Resolves when the file has every change. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing
  }

  #isOver({ expires }: KeptRecord): boolean {
    return expires !== null && expires <= this.#clock.now()
  }

  #change(): void {
    if (this.#path === undefined) return
    this.#isChanged = true
    this.#writing ??= this.#write(this.#path).finally(() => {
      this.#writing = undefined
    })
  }

  async #write(path: string): Promise<void> {
    while (this.#isChanged) {
      this.#isChanged = false
      const lasting = [...this.#records].filter(([, record]) => !this.#isOver(record))
      await replaceFile(path, JSON.stringify(Object.fromEntries(lasting)))
    }
  }

  /** The interface of `oidc-provider`: https://github.com/panva/node-oidc-provider/blob/main/example/my_adapter.js */
  readonly adapter = (kind: string): Adapter => ({
    upsert: async (id: string, payload: AdapterPayload, expiresIn?: number) => {
      this.put(kind, id, { ...payload }, expiresIn)
    },
    find: async (id: string) => this.find(kind, id) as AdapterPayload | undefined,
    findByUid: async (uid: string) => this.findBy(kind, 'uid', uid) as AdapterPayload | undefined,
    findByUserCode: async (code: string) => this.findBy(kind, 'userCode', code) as AdapterPayload | undefined,
    consume: async (id: string) => {
      const record = this.#records.get(`${kind}:${id}`)
      if (record !== undefined) record.payload['consumed'] = toSeconds(this.#clock.now())
      this.#change()
    },
    destroy: async (id: string) => {
      this.remove((key) => key === `${kind}:${id}`)
    },
    revokeByGrantId: async (grantId: string) => {
      this.remove((_key, payload) => payload['grantId'] === grantId)
    },
  })
}
