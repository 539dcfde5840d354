"""Make what a cluster on AWS stands on, and write it into cluster/aws.yaml.

    python -m cluster.aws.prepare --region us-west-2 --bucket BUCKET --ssh_from YOUR.IP/32

Place on the way: once before `ray up`, by somebody who may make roles. Made are a bucket, the roles
of head and workers (the policies beside this file), spot's service role, and a security group that
lets in the cluster's own nodes and, by SSH, whom you name. Found is the newest image. Called again,
it makes only what has changed: where SSH may come from, the policies. An image and a bucket that
are there stay; another image (--new_image) has the next `ray up` replace running nodes.
"""

import argparse
import ipaddress
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from raymd.errors import RaymdError, UserError

HERE = Path(__file__).parent
YAML = HERE.parent / "aws.yaml"
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
NO_IMAGE = "ami-00000000000000000"  # of a file that nobody prepared
POLICIES = {"raymd-head": ("head", "worker"), "raymd-worker": ("worker",)}
GROUP = "raymd"
PRIVATE = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
SSH = 22


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 for a mistake.

    Args:
        argv: The words after the command; default: the process's own.
    """
    parser = argparse.ArgumentParser(prog="prepare", description=__doc__.partition("\n")[0])
    parser.add_argument("--region", required=True, help="such as us-west-2")
    parser.add_argument("--bucket", required=True, help="of the data and the results")
    parser.add_argument("--ssh_from", required=True, help="who may use SSH: addresses as a CIDR")
    parser.add_argument("--vpc", help="the network's id; default: the region's default network")
    parser.add_argument("--new_image", action="store_true", help="in place of the file's")
    parser.add_argument("--yaml", type=Path, default=YAML, help="the file to fill in")
    asked = parser.parse_args(argv)
    try:
        group = prepare(asked.region, asked.bucket, ssh_from=asked.ssh_from, vpc=asked.vpc)
        text = asked.yaml.read_text()
        old = has_image(text, asked.region) and not asked.new_image
        image = None if old else newest(asked.region)
        asked.yaml.write_text(fill_in(text, region=asked.region, image=image, group=group))
    except (RaymdError, BotoCoreError, ClientError) as error:
        print(f"prepare: error: {error}", file=sys.stderr)
        return 2
    chosen = image or "the image that it had (--new_image: the newest)"
    print(f"{asked.yaml}: {asked.region}, {group}, {chosen}; next: ray up -y {asked.yaml}")
    return 0


def prepare(region: str, bucket: str, *, ssh_from: str, vpc: str | None = None) -> str:
    """Make what is not there yet; gives back the security group's id.

    Args:
        region: Of the cluster and the bucket.
        bucket: Its name; one that is there has to be yours.
        ssh_from: Addresses that may use SSH, as a CIDR.
        vpc: Id of the network; None: the region's default one.

    Raises:
        UserError: SSH would be open to everybody, there is no such network, or the bucket is
            somebody else's.
        ClientError: AWS refuses.
    """
    check_narrow(ssh_from)
    ec2 = boto3.client("ec2", region)
    group = make_group(ec2, vpc or default_vpc(ec2, region), ssh_from=ssh_from)
    make_bucket(boto3.client("s3", region), bucket, region)
    iam = boto3.client("iam", region)
    for role, policies in POLICIES.items():
        make_role(iam, role, policies, names={"BUCKET": bucket, "GROUP": group})
    with there_already("InvalidInput", "EntityAlreadyExists"):
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    return group


def newest(region: str) -> str:
    """Id of the region's newest image."""
    return str(boto3.client("ssm", region).get_parameter(Name=IMAGE)["Parameter"]["Value"])


def check_narrow(ssh_from: str) -> None:
    """See that SSH is opened to some addresses, not to all.

    Raises:
        UserError: it is not.
    """
    try:
        network = ipaddress.IPv4Network(ssh_from)
    except ValueError as error:
        raise UserError(f"ssh_from {ssh_from}: {error}; takes such as 203.0.113.7/32") from error
    if network.prefixlen < 8:
        raise UserError(
            f"ssh_from {ssh_from}: would open SSH to {network.num_addresses:,} addresses; takes /8"
            " and narrower, such as 203.0.113.7/32"
        )


def default_vpc(ec2: Any, region: str) -> str:
    """Id of the region's default network.

    Raises:
        UserError: it has none.
    """
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise UserError(f"region {region} has no default VPC: name one with public subnets (--vpc)")
    return str(found[0]["VpcId"])


def make_group(ec2: Any, vpc: str, *, ssh_from: str) -> str:
    """The cluster's security group: its nodes reach each other, SSH comes from where it may.

    Args:
        ec2: boto3's client.
        vpc: Id of the network.
        ssh_from: A CIDR; those of earlier calls are closed.
    """
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": [GROUP]}]
    found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    group = found[0] if found else _new_group(ec2, vpc)
    inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group["GroupId"]}]}
    # opened before others are closed, so that a running cluster is never cut off
    for rule in (inside, _ssh(ssh_from)):
        with there_already("InvalidPermission.Duplicate"):
            ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[rule])
    before = [rule for rule in group["IpPermissions"] if rule.get("FromPort") == SSH]
    cidrs = {each["CidrIp"] for rule in before for each in rule["IpRanges"]} - {ssh_from}
    if closed := [_ssh(cidr) for cidr in sorted(cidrs)]:
        ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=closed)
    return str(group["GroupId"])


def _ssh(cidr: str) -> dict[str, Any]:
    ranges = [{"CidrIp": cidr}]
    return {"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH, "IpRanges": ranges}


def _new_group(ec2: Any, vpc: str) -> dict[str, Any]:
    made = ec2.create_security_group(
        GroupName=GROUP, VpcId=vpc, Description="raymd: nodes reach each other, SSH by prepare.py"
    )
    return {"GroupId": made["GroupId"], "IpPermissions": []}


def make_bucket(s3: Any, bucket: str, region: str) -> None:
    """A private bucket; one that is there stays as it is, which is said.

    Raises:
        UserError: it is there, and you may not look at it.
    """
    try:
        found = s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise UserError(
                f"bucket {bucket} is somebody else's, or closed to you ({error}); takes one of your"
                " own, or a name that nobody has (--bucket)"
            ) from error
        _new_bucket(s3, bucket, region)
    else:
        public = "" if _is_private(s3, bucket) else "not "
        where = found.get("BucketRegion", "a region that it does not tell")
        print(f"bucket {bucket}: there already, in {where}, {public}closed to the public; stays so")


def _is_private(s3: Any, bucket: str) -> bool:
    answer: dict[str, Any] = {}
    with there_already("NoSuchPublicAccessBlockConfiguration"):
        answer = s3.get_public_access_block(Bucket=bucket)
    return answer.get("PublicAccessBlockConfiguration") == PRIVATE


def _new_bucket(s3: Any, bucket: str, region: str) -> None:
    # us-east-1 is S3's default, and the one region that may not be named
    place = {} if region == "us-east-1" else {"LocationConstraint": region}
    s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=PRIVATE)


def make_role(iam: Any, role: str, policies: Sequence[str], *, names: Mapping[str, str]) -> None:
    """A role for EC2 with an instance profile of the same name.

    Args:
        iam: boto3's client.
        role: Its name.
        policies: Names of files beside this one.
        names: What stands for each word in capitals in the policies.
    """
    with there_already("EntityAlreadyExists"):
        trust = (HERE / "trust-policy.json").read_text()
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
    for policy in policies:
        text = (HERE / f"{policy}-policy.json").read_text()
        for word, name in names.items():
            text = text.replace(word, name)
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=text)
    with there_already("EntityAlreadyExists"):
        iam.create_instance_profile(InstanceProfileName=role)
    with there_already("LimitExceeded"):  # a profile holds one role
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)


@contextmanager
def there_already(*codes: str) -> Iterator[None]:
    """Making what is there already is no error."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


def has_image(text: str, region: str) -> bool:
    """Whether a cluster's YAML names an image already, which is one of this region."""
    here = re.search(rf"^  region: {re.escape(region)}\s", text, flags=re.MULTILINE)
    return NO_IMAGE not in text and here is not None


def fill_in(text: str, *, region: str, image: str | None, group: str) -> str:
    """The cluster's YAML with these in it; comments stay, and without an image its own.

    Raises:
        UserError: a place to fill in is not there.
    """
    for pattern, value in (
        (r"(?<=^  region: )\S+", region),
        (r"(?<=ImageId: )ami-\w+", image),
        (r"(?<=SecurityGroupIds: \[)sg-\w+", group),
    ):
        if value is None:
            continue
        text, count = re.subn(pattern, value, text, flags=re.MULTILINE)
        if not count:
            raise UserError(f"no place for {value} (no match of {pattern}): name the file (--yaml)")
    return text


if __name__ == "__main__":
    sys.exit(main())
