import { createHash } from 'node:crypto'
import { Agent } from 'undici'
import { lengthPrefixed } from '#foundation/crypto'
import { createLru } from '#foundation/lru'
import type { ClientCertificate } from './egress.ts'
import type { createConnectionGuard } from './guard.ts'

/** Certificates and private authorities whose connections are kept at most. */
const MAX_AGENTS = 100

interface AgentOptions {
  readonly lookup: ReturnType<typeof createConnectionGuard>['lookup']
  /** Certificate authorities (PEM) instead of those of the system. */
  readonly ca?: string | undefined
}

/** The pools of outgoing connections. Connections on which Deputy has proved itself are used for nothing else. */
export class Agents {
  readonly #options: AgentOptions
  readonly #common: Agent
  readonly #special = createLru<string, Agent>({
    max: MAX_AGENTS,
    dispose: (each) => {
      void each.close()
    },
  })

  constructor(options: AgentOptions) {
    this.#options = options
    this.#common = this.#create(undefined, undefined)
  }

  /** The agent for an address. @param authorities those of the address, where they are private */
  for(url: URL, certificate: ClientCertificate | undefined, authorities: readonly string[] | undefined): Agent {
    if (certificate === undefined && authorities === undefined) return this.#common
    const id = createHash('sha256')
      .update(
        lengthPrefixed(
          authorities === undefined ? '' : url.host,
          certificate?.certificate ?? '',
          certificate?.key.reveal() ?? '',
        ),
      )
      .digest('base64')
    let found = this.#special.get(id)
    if (found === undefined) this.#special.set(id, (found = this.#create(certificate, authorities)))
    return found
  }

  async close(): Promise<void> {
    this.#special.clear()
    await this.#common.close()
  }

  #create(certificate: ClientCertificate | undefined, authorities: readonly string[] | undefined): Agent {
    const { ca, lookup } = this.#options
    const trusted = authorities === undefined ? ca : [...authorities]
    return new Agent({
      connect: {
        ...(trusted === undefined ? {} : { ca: trusted }),
        lookup,
        ...(certificate === undefined ? {} : { cert: certificate.certificate, key: certificate.key.reveal() }),
      },
    })
  }
}
