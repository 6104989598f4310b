import ipaddr from 'ipaddr.js'

/**
 * Addresses at which cloud providers hand out machine credentials. They stay refused even where private ranges are
 * allowed.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
 * @see https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
 * @see https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm
 */
const METADATA = new Set(['169.254.169.254', '169.254.170.2', '169.254.170.23', 'fd00:ec2::254', 'fd00:ec2::23', '100.100.100.200', '192.0.0.192', 'fd20:ce::254'].map((address) => ipaddr.process(address).toNormalizedString()))

export interface AddressRules {
  readonly allowLoopback: boolean
  /** CIDR ranges. */
  readonly allowPrivate: readonly string[]
}

type Judge = (address: string) => string | undefined

/**
 * Says why an address must not be connected to; undefined when it may. IPv6 forms that carry an IPv4 address
 * (mapped, NAT64, 6to4, Teredo) are judged like what they carry or refused with their range.
 */
export const createAddressJudge = ({ allowLoopback, allowPrivate }: AddressRules): Judge => {
  const ranges = allowPrivate.map((range) => ipaddr.parseCIDR(range))
  return (text) => {
    if (!ipaddr.isValid(text)) return 'it is no address'
    const address = ipaddr.process(text)
    if (METADATA.has(address.toNormalizedString())) return 'it is a cloud metadata address'
    const range = address.range()
    if (range === 'unicast') return undefined
    if (range === 'loopback') return allowLoopback ? undefined : 'it is a loopback address'
    const allowed = ranges.some(([network, bits]) => network.kind() === address.kind() && (address as ipaddr.IPv4).match(network as ipaddr.IPv4, bits))
    if (allowed && (range === 'private' || range === 'uniqueLocal' || range === 'carrierGradeNat')) return undefined
    return `it is in a range that is not public (${range})`
  }
}
