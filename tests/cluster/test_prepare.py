"""What stands ready before `ray up` on AWS."""

import json
from unittest.mock import patch
from urllib.parse import unquote

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from cluster.aws import prepare
from raymd.errors import UserError
from tests.cluster.conftest import CLUSTER, FLAGS, REGION, SSH_FROM, account, fill_in, read

pytestmark = pytest.mark.slow  # moto's AWS answers in tens of seconds
NEWER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """An account in which a file was prepared; gives back the file's folder."""
    home = tmp_path_factory.mktemp("home")
    with account(home):
        fill_in(home)
        yield home


def rules():
    found = boto3.client("ec2", REGION).describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [prepare.GROUP]}]
    )
    (group,) = found["SecurityGroups"]
    return group["IpPermissions"]


def sources():
    return [source["CidrIp"] for rule in rules() for source in rule["IpRanges"]]


def test_it_fills_in_three_things_and_leaves_the_rest(aws):
    before = (CLUSTER / "aws.yaml").read_text().splitlines()
    after = (aws / "aws.yaml").read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    group = boto3.client("ec2", REGION).describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [prepare.GROUP]}]
    )["SecurityGroups"][0]["GroupId"]
    image = boto3.client("ssm", REGION).get_parameter(Name=prepare.IMAGE)["Parameter"]["Value"]
    for line, value in zip(changed, [REGION, image, group], strict=True):
        assert value in line


def test_committed_file_names_its_image_outright():
    for kind in read("aws.yaml")["available_node_types"].values():
        # where it is left out, Ray takes an image of 2023
        assert kind["node_config"]["ImageId"].startswith("ami-")


@pytest.mark.parametrize(
    ("role", "policies"), [("raymd-head", {"head", "worker"}), ("raymd-worker", {"worker"})]
)
def test_roles_hold_the_policies_for_the_bucket(role, policies, aws):
    iam = boto3.client("iam", REGION)
    assert set(iam.list_role_policies(RoleName=role)["PolicyNames"]) == policies
    document = iam.get_role_policy(RoleName=role, PolicyName="worker")["PolicyDocument"]
    text = document if isinstance(document, str) else json.dumps(document)
    assert "arn:aws:s3:::photos/*" in unquote(text)
    if "head" in policies:
        document = iam.get_role_policy(RoleName=role, PolicyName="head")["PolicyDocument"]
        text = document if isinstance(document, str) else json.dumps(document)
        assert "security-group/sg-" in unquote(text)
    (held,) = iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]["Roles"]
    assert held["RoleName"] == role


def blocked(bucket):
    answer = boto3.client("s3", REGION).get_public_access_block(Bucket=bucket)
    return all(answer["PublicAccessBlockConfiguration"].values())


def test_bucket_is_private(aws):
    assert blocked("photos")


def test_a_bucket_that_is_there_stays_as_it_is_and_is_told_of(aws, capsys):
    s3 = boto3.client("s3", REGION)
    s3.create_bucket(Bucket="open", CreateBucketConfiguration={"LocationConstraint": REGION})
    prepare.make_bucket(s3, "open", REGION)
    said = f"bucket open: there already, in {REGION}, not closed to the public; stays so"
    assert said in capsys.readouterr().out
    with pytest.raises(ClientError, match="NoSuchPublicAccessBlock"):
        blocked("open")
    prepare.make_bucket(s3, "photos", REGION)
    assert f"in {REGION}, closed to the public" in capsys.readouterr().out


def test_somebody_elses_bucket_is_refused(aws):
    s3 = boto3.client("s3", REGION)
    with Stubber(s3) as stub:
        stub.add_client_error("head_bucket", "403", "Forbidden", 403)
        with pytest.raises(UserError, match=r"bucket theirs is somebody else's.*--bucket"):
            prepare.make_bucket(s3, "theirs", REGION)


def test_called_again_it_keeps_the_image_so_that_a_running_head_stays(aws, capsys):
    path = aws / "aws.yaml"
    first = path.read_text()
    with patch.object(prepare, "IMAGE", NEWER):
        assert prepare.main([*FLAGS, "--yaml", str(path)]) == 0
        assert path.read_text() == first
        assert "the image that it had (--new_image" in capsys.readouterr().out
        newer = boto3.client("ssm", REGION).get_parameter(Name=NEWER)["Parameter"]["Value"]
        assert newer not in first
        assert prepare.main([*FLAGS, "--new_image", "--yaml", str(path)]) == 0
        assert newer in path.read_text()
    path.write_text(first.replace(f"region: {REGION}", "region: us-west-2"))
    assert prepare.main([*FLAGS, "--yaml", str(path)]) == 0
    assert path.read_text() == first  # an image of another region would not be found


def test_called_again_it_moves_ssh_to_where_you_are_now(aws):
    path = str(aws / "aws.yaml")
    text = (aws / "aws.yaml").read_text()
    assert prepare.main([*FLAGS, "--yaml", path]) == 0
    assert sources() == [SSH_FROM]
    assert (aws / "aws.yaml").read_text() == text
    elsewhere = [*FLAGS[:-1], "198.51.100.0/24", "--yaml", path]
    assert prepare.main(elsewhere) == 0
    assert sources() == ["198.51.100.0/24"]
    assert prepare.main([*FLAGS, "--yaml", path]) == 0
    assert sources() == [SSH_FROM]
    assert sum(len(rule["UserIdGroupPairs"]) for rule in rules()) == 1


@pytest.mark.parametrize("ssh_from", ["0.0.0.0/0", "128.0.0.0/1", "my laptop", "203.0.113.7/24"])
def test_ssh_for_everybody_is_refused(ssh_from, capsys):
    flags = [*FLAGS[:-1], ssh_from]
    assert prepare.main(flags) == 2
    assert ssh_from in capsys.readouterr().err


def test_region_without_a_default_network_is_told(aws):
    ec2 = boto3.client("ec2", "eu-west-3")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    with pytest.raises(UserError, match=r"eu-west-3 has no default VPC.*--vpc"):
        prepare.prepare("eu-west-3", "photos", ssh_from=SSH_FROM)


def test_file_without_the_places_is_refused():
    with pytest.raises(UserError, match="no place for eu-west-1"):
        prepare.fill_in("cluster_name: raymd\n", region=REGION, image="ami-1", group="sg-1")
