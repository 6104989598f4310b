import type { Attributes, Meter } from '@opentelemetry/api'
import { taxonomy } from '#errors'
import type { Telemetry } from './telemetry.ts'

type Labels = Readonly<Record<string, string | undefined>>

const defined = (labels: Labels): Attributes => {
  const attributes: Attributes = {}
  for (const name in labels) if (labels[name] !== undefined) attributes[name] = labels[name]
  return attributes
}

/**
 * A counter that keeps its totals and reports them when metrics are read: the SDK's own computes a hash of the labels each time,
 * and a token request counts several things. Callers give a counter's labels in the same order each time.
 */
const createTally = (meter: Meter, name: string, description: string) => {
  const totals = new Map<string, { readonly attributes: Attributes; total: number }>()
  meter.createObservableCounter(name, { description }).addCallback((result) => {
    for (const { attributes, total } of totals.values()) result.observe(total, attributes)
  })
  return {
    add(count: number, labels: Labels): void {
      let key = ''
      for (const label in labels) key += `${labels[label] ?? ''}\n`
      const known = totals.get(key)
      if (known === undefined) totals.set(key, { attributes: defined(labels), total: count })
      else known.total += count
    },
  }
}

type Measurements = Omit<Telemetry, 'span'>

/** Durations of token requests, of calls to providers and of audit commits. */
const createDurations = (
  meter: Meter,
  tenantLabel: boolean,
): Pick<Measurements, 'exchange' | 'provider'> & { readonly commit: (seconds: number, labels: Labels) => void } => {
  // The exporter for Prometheus adds no unit to a name, which its conventions require.
  const duration = (name: string, description: string) =>
    meter.createHistogram(`${name}.seconds`, { description, unit: 's' })
  const exchanges = duration('deputy.exchange.duration', 'Token requests, by outcome and error')
  const providers = duration('deputy.provider.request.duration', 'Requests to identity providers and OAuth services')
  const commits = duration('deputy.audit.commit.duration', 'Audit commits, by sink')
  return {
    exchange: ({ outcome, error, credential, tenant, seconds }) => {
      exchanges.record(
        seconds,
        defined({
          outcome,
          credential,
          'error.type': error,
          'deputy.error.category': error === undefined ? undefined : taxonomy[error].category,
          'deputy.tenant': tenantLabel ? tenant : undefined,
        }),
      )
    },
    provider: ({ provider, operation, outcome, seconds }) => {
      providers.record(seconds, { provider, operation, outcome })
    },
    commit: (seconds, labels) => {
      commits.record(seconds, defined(labels))
    },
  }
}

/** Every measurement of the daemon, as an instrument of a meter. @param tenantLabel whether durations of token requests name the tenant */
export const createInstruments = (meter: Meter, tenantLabel: boolean): Measurements => {
  const { commit, ...durations } = createDurations(meter, tenantLabel)
  const counter = (name: string, description: string) => createTally(meter, name, description)
  const attestations = counter(
    'deputy.attestations',
    'Callers that proved, or did not prove, to be a registered server',
  )
  const subjects = counter('deputy.subjects', 'Subject tokens and sessions that were verified or refused')
  const decisions = counter('deputy.policy.decisions', 'Policy decisions')
  const refreshes = counter('deputy.refreshes', 'Refreshes of grants, by outcome')
  const lookups = counter('deputy.cache.lookups', 'Credential cache lookups')
  const auditRecords = counter('deputy.audit.records', 'Audit records, by sink and outcome')
  const revocations = counter('deputy.revocations', 'Revocations, by what they cover')
  const upstreamRevocations = counter(
    'deputy.upstream_revocations',
    'Attempts to end grants at their providers, by provider and outcome; alert on irrevocable',
  )

  return {
    ...durations,
    attestation: ({ method, outcome, error }) => {
      attestations.add(1, { method, outcome, 'error.type': error })
    },
    subject: ({ how, outcome, error }) => {
      subjects.add(1, { how, outcome, 'error.type': error })
    },
    decision: ({ allowed, credential }) => {
      decisions.add(1, { decision: allowed ? 'allow' : 'deny', credential })
    },
    refresh: ({ provider, outcome }) => {
      refreshes.add(1, { provider, outcome })
    },
    cache: ({ outcome }) => {
      lookups.add(1, { outcome })
    },
    audit: ({ sink, outcome, records, seconds }) => {
      commit(seconds, { sink, outcome })
      auditRecords.add(records, { sink, outcome })
    },
    revocation: ({ scope }) => {
      revocations.add(1, { scope })
    },
    upstreamRevocation: ({ provider, outcome }) => {
      upstreamRevocations.add(1, { provider, outcome })
    },
  }
}
