"""What computes AP: hotcoco, pycocotools, lvis, and the check that they agree."""
