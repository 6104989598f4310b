import ipaddr from 'ipaddr.js'

/**
 * Addresses at which cloud providers hand out machine credentials. They stay refused even where private ranges are
 * allowed.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
 * @see https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
 * @see https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm
 * @see https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16 (a public address that only the own host answers on)
 */
const METADATA = new Set(
  [
    '169.254.169.254',
    '169.254.170.2',
    '169.254.170.23',
    'fd00:ec2::254',
    'fd00:ec2::23',
    '100.100.100.200',
    '192.0.0.192',
    'fd20:ce::254',
    '168.63.129.16',
  ].map((address) => ipaddr.process(address).toNormalizedString()),
)

/** Addresses within a site, at which an operator has services of the site: RFC 1918, RFC 6598 and RFC 4193. */
const PRIVATE_RANGES = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']

export interface AddressRules {
  readonly allowLoopback: boolean
  /** CIDR ranges. */
  readonly allowPrivate: readonly string[]
}

/**
 * Of services that the settings name, such as vaults and receivers of audit records: no tenant has a say in them, and they may
 * be on this machine or in this site. Cloud metadata addresses stay refused.
 */
export const NAMED_BY_SETTINGS: AddressRules = { allowLoopback: true, allowPrivate: PRIVATE_RANGES }

/** Says why an address must not be connected to; undefined when it may. */
export type AddressJudge = (address: string) => string | undefined

/** The only part of IPv6 from which public addresses are given out (RFC 4291 section 2.4); the rest is reserved or translates. */
const PUBLIC_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3')

/** Whether a host name of a URL is a loopback address, or the name that stands for one (RFC 6761 section 6.3). */
export const isLoopbackHost = (host: string): boolean =>
  host === 'localhost' || (ipaddr.isValid(host) && ipaddr.process(host).range() === 'loopback')

/**
 * A judge by these rules. IPv6 forms that carry an IPv4 address
 * (mapped, NAT64, 6to4, Teredo) are judged like what they carry or refused with their range.
 */
export const createAddressJudge = ({ allowLoopback, allowPrivate }: AddressRules): AddressJudge => {
  const ranges = allowPrivate.map((range) => ipaddr.parseCIDR(range))
  return (text) => {
    if (!ipaddr.isValid(text)) return 'it is no address'
    const address = ipaddr.process(text)
    if (METADATA.has(address.toNormalizedString())) return 'it is a cloud metadata address'
    const range = address.range()
    if (range === 'unicast' && (address.kind() === 'ipv4' || (address as ipaddr.IPv6).match(PUBLIC_IPV6)))
      return undefined
    if (range === 'loopback') return allowLoopback ? undefined : 'it is a loopback address'
    const allowed = ranges.some(
      ([network, bits]) =>
        network.kind() === address.kind() && (address as ipaddr.IPv4).match(network as ipaddr.IPv4, bits),
    )
    if (allowed && (range === 'private' || range === 'uniqueLocal' || range === 'carrierGradeNat')) return undefined
    return `it is in a range that is not public (${range})`
  }
}
